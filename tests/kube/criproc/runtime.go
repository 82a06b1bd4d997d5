package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log"
	"sync"
	"time"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// rt is the runtime of one node.
type rt struct {
	api.UnimplementedRuntimeServiceServer
	mu         sync.Mutex
	state      string
	hostname   string
	images     map[string]image
	sandboxes  map[string]*sandbox
	containers map[string]*container
	ipam       ipam
	path       string
	stream     streaming.Server
}

func newRuntime(state, hostname string, images map[string]image) *rt {
	return &rt{state: state, hostname: hostname, images: images, sandboxes: map[string]*sandbox{}, containers: map[string]*container{}}
}

func newID() string { b := make([]byte, 16); rand.Read(b); return hex.EncodeToString(b) }

func (r *rt) Version(context.Context, *api.VersionRequest) (*api.VersionResponse, error) {
	return &api.VersionResponse{Version: "0.1.0", RuntimeName: "criproc", RuntimeVersion: "0.1.0", RuntimeApiVersion: "v1"}, nil
}

func (r *rt) Status(context.Context, *api.StatusRequest) (*api.StatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	net := &api.RuntimeCondition{Type: api.NetworkReady, Status: len(r.ipam.prefixes) > 0}
	if !net.Status {
		net.Reason, net.Message = "NoPodCIDR", "the node has no pod CIDR yet"
	}
	return &api.StatusResponse{Status: &api.RuntimeStatus{Conditions: []*api.RuntimeCondition{{Type: api.RuntimeReady, Status: true}, net}}}, nil
}

func (r *rt) UpdateRuntimeConfig(_ context.Context, q *api.UpdateRuntimeConfigRequest) (*api.UpdateRuntimeConfigResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := q.GetRuntimeConfig().GetNetworkConfig().GetPodCidr(); c != "" {
		log.Printf("pod CIDR %s", c)
		if err := r.ipam.set(c); err != nil {
			return nil, err
		}
	}
	return &api.UpdateRuntimeConfigResponse{}, nil
}

func (r *rt) RuntimeConfig(context.Context, *api.RuntimeConfigRequest) (*api.RuntimeConfigResponse, error) {
	return &api.RuntimeConfigResponse{Linux: &api.LinuxRuntimeConfiguration{CgroupDriver: api.CgroupDriver_CGROUPFS}}, nil
}

// killAll ends everything, for the end of the runtime.
func (r *rt) killAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.state == api.ContainerState_CONTAINER_RUNNING {
			c.cmd.Process.Kill()
		}
	}
	for _, s := range r.sandboxes {
		s.kill()
	}
}

func matches(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
