package main

import (
	"context"
	"path"
	"strings"
	"time"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// image is what a container image is here: a program of this machine.
type image struct {
	Binary string   `json:"binary"`
	Args   []string `json:"args"` // when the container gives none
	UID    int      `json:"uid"`  // the image's USER
}

// imageService says that every image is there.
type imageService struct {
	api.UnimplementedImageServiceServer
	rt *rt
}

// imageName is a reference without registry, tag and digest.
func imageName(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	b := path.Base(ref)
	b, _, _ = strings.Cut(b, ":")
	return b
}

func (i *imageService) image(ref string) *api.Image {
	uid := int64(i.rt.images[imageName(ref)].UID)
	return &api.Image{Id: ref, RepoTags: []string{ref}, Size: 1, Spec: &api.ImageSpec{Image: ref}, Uid: &api.Int64Value{Value: uid}}
}

func (i *imageService) ListImages(context.Context, *api.ListImagesRequest) (*api.ListImagesResponse, error) {
	return &api.ListImagesResponse{}, nil
}

func (i *imageService) ImageStatus(_ context.Context, q *api.ImageStatusRequest) (*api.ImageStatusResponse, error) {
	return &api.ImageStatusResponse{Image: i.image(q.GetImage().GetImage())}, nil
}

func (i *imageService) PullImage(_ context.Context, q *api.PullImageRequest) (*api.PullImageResponse, error) {
	return &api.PullImageResponse{ImageRef: q.GetImage().GetImage()}, nil
}

func (i *imageService) RemoveImage(context.Context, *api.RemoveImageRequest) (*api.RemoveImageResponse, error) {
	return &api.RemoveImageResponse{}, nil
}

func (i *imageService) ImageFsInfo(context.Context, *api.ImageFsInfoRequest) (*api.ImageFsInfoResponse, error) {
	u := []*api.FilesystemUsage{{Timestamp: time.Now().UnixNano(), FsId: &api.FilesystemIdentifier{Mountpoint: i.rt.state}, UsedBytes: &api.UInt64Value{Value: 1}, InodesUsed: &api.UInt64Value{Value: 1}}}
	return &api.ImageFsInfoResponse{ImageFilesystems: u, ContainerFilesystems: u}, nil
}
