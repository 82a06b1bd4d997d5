package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// container is a process, before, while and after it runs.
type container struct {
	id, sandboxID              string
	cfg                        *api.ContainerConfig
	cmd                        *exec.Cmd
	created, started, finished time.Time
	state                      api.ContainerState
	exitCode                   int32
	reason, logPath            string
	done                       chan struct{}
	args                       []string
	image                      image
}

func (r *rt) CreateContainer(_ context.Context, q *api.CreateContainerRequest) (*api.CreateContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[q.PodSandboxId]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "no sandbox %s", q.PodSandboxId)
	}
	c := &container{id: newID(), sandboxID: s.id, cfg: q.Config, created: time.Now(), state: api.ContainerState_CONTAINER_CREATED, done: make(chan struct{})}
	if s.cfg.LogDirectory != "" && q.Config.LogPath != "" {
		c.logPath = filepath.Join(s.cfg.LogDirectory, q.Config.LogPath)
	}
	name := imageName(q.Config.GetImage().GetImage())
	var known bool
	c.image, known = r.images[name]
	// The image's entrypoint is its program, at /NAME in the container.
	switch {
	case len(q.Config.Command) > 0:
		c.args = append(append(c.args, q.Config.Command...), q.Config.Args...)
	case !known:
		return nil, fmt.Errorf("image %s is unknown here and the container has no command", q.Config.GetImage().GetImage())
	case len(q.Config.Args) > 0:
		c.args = append([]string{"/" + name}, q.Config.Args...)
	default:
		c.args = append([]string{"/" + name}, c.image.Args...)
	}
	r.containers[c.id] = c
	return &api.CreateContainerResponse{ContainerId: c.id}, nil
}

func (r *rt) StartContainer(_ context.Context, q *api.StartContainerRequest) (*api.StartContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[q.ContainerId]
	if c == nil {
		return nil, status.Errorf(codes.NotFound, "no container %s", q.ContainerId)
	}
	s := r.sandboxes[c.sandboxID]
	if s == nil || s.cmd == nil {
		return nil, errors.New("the sandbox has stopped")
	}
	spec := r.spec(s, c)
	js, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(self(), "container-init")
	c.cmd.Env = []string{"CRIPROC_SPEC=" + string(js)}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL, Setsid: true}
	var lw io.Closer = io.NopCloser(nil)
	if c.logPath != "" {
		w, err := newLog(c.logPath)
		if err != nil {
			return nil, err
		}
		c.cmd.Stdout, c.cmd.Stderr = w.stream("stdout"), w.stream("stderr")
		lw = w
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.started, c.state = time.Now(), api.ContainerState_CONTAINER_RUNNING
	go func() {
		err := c.cmd.Wait()
		lw.Close()
		r.mu.Lock()
		c.finished, c.state = time.Now(), api.ContainerState_CONTAINER_EXITED
		c.reason = "Completed"
		if err != nil {
			c.reason = "Error"
			c.exitCode = 255
			if st, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
				if st.Signaled() {
					c.exitCode = 128 + int32(st.Signal())
				} else {
					c.exitCode = int32(st.ExitStatus())
				}
			}
		}
		r.mu.Unlock()
		close(c.done)
	}()
	return &api.StartContainerResponse{}, nil
}

// spec says how the container starts.
func (r *rt) spec(s *sandbox, c *container) containerSpec {
	user := c.user()
	sec := c.cfg.GetLinux().GetSecurityContext()
	spec := containerSpec{
		SandboxPID: s.cmd.Process.Pid, Root: filepath.Join(r.state, c.id), Args: c.args, Dir: c.cfg.WorkingDir,
		Env: []string{r.path, "HOSTNAME=" + s.cfg.Hostname}, UID: user.uid, GID: user.gid, Groups: user.groups,
		ReadOnlyRoot: sec.GetReadonlyRootfs(), NoNewPrivs: sec.GetNoNewPrivs(),
	}
	for _, e := range c.cfg.Envs {
		spec.Env = append(spec.Env, e.Key+"="+string(e.Value))
	}
	if c.image.Binary != "" {
		// A mount and no link: the container's user may not be let into the directories that lead to the program.
		at := "/" + imageName(c.cfg.GetImage().GetImage())
		spec.Mounts = append(spec.Mounts, bind{Host: c.image.Binary, Container: at, ReadOnly: true})
	}
	for _, m := range c.cfg.Mounts {
		spec.Mounts = append(spec.Mounts, bind{Host: m.HostPath, Container: m.ContainerPath, ReadOnly: m.Readonly})
	}
	if s.resolv != "" {
		spec.Mounts = append(spec.Mounts, bind{Host: s.resolv, Container: "/etc/resolv.conf"})
	}
	return spec
}

// user is who a container runs as.
type user struct {
	uid, gid int
	groups   []int
}

// user is what the security context says, or else the image.
func (c *container) user() user {
	sec := c.cfg.GetLinux().GetSecurityContext()
	u := user{uid: c.image.UID, gid: c.image.UID}
	if v := sec.GetRunAsUser(); v != nil {
		u.uid, u.gid = int(v.Value), 0
	}
	if v := sec.GetRunAsGroup(); v != nil {
		u.gid = int(v.Value)
	}
	for _, g := range sec.GetSupplementalGroups() {
		u.groups = append(u.groups, int(g))
	}
	return u
}

// stop ends a container: asks it, and kills it after the time-out.
func (r *rt) stop(c *container, timeout time.Duration) {
	r.mu.Lock()
	if c.state != api.ContainerState_CONTAINER_RUNNING {
		if c.state == api.ContainerState_CONTAINER_CREATED {
			c.state, c.finished, c.reason = api.ContainerState_CONTAINER_EXITED, time.Now(), "NeverStarted"
		}
		r.mu.Unlock()
		return
	}
	p := c.cmd.Process
	r.mu.Unlock()
	if timeout > 0 {
		p.Signal(syscall.SIGTERM)
		select {
		case <-c.done:
			return
		case <-time.After(timeout):
		}
	}
	p.Kill()
	<-c.done
}

func (r *rt) StopContainer(_ context.Context, q *api.StopContainerRequest) (*api.StopContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[q.ContainerId]
	r.mu.Unlock()
	if c != nil {
		r.stop(c, time.Duration(q.Timeout)*time.Second)
	}
	return &api.StopContainerResponse{}, nil
}

func (r *rt) RemoveContainer(_ context.Context, q *api.RemoveContainerRequest) (*api.RemoveContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[q.ContainerId]
	r.mu.Unlock()
	if c != nil {
		r.stop(c, 0)
		r.mu.Lock()
		delete(r.containers, c.id)
		r.mu.Unlock()
		os.Remove(filepath.Join(r.state, c.id))
	}
	return &api.RemoveContainerResponse{}, nil
}

func (r *rt) ListContainers(_ context.Context, q *api.ListContainersRequest) (*api.ListContainersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &api.ListContainersResponse{}
	f := q.Filter
	for _, c := range r.containers {
		if f.GetId() != "" && f.GetId() != c.id || f.GetPodSandboxId() != "" && f.GetPodSandboxId() != c.sandboxID ||
			f.GetState() != nil && f.GetState().State != c.state || !matches(f.GetLabelSelector(), c.cfg.Labels) {
			continue
		}
		out.Containers = append(out.Containers, &api.Container{Id: c.id, PodSandboxId: c.sandboxID, Metadata: c.cfg.Metadata, Image: c.cfg.Image,
			ImageRef: c.cfg.Image.GetImage(), ImageId: c.cfg.Image.GetImage(), State: c.state, CreatedAt: c.created.UnixNano(), Labels: c.cfg.Labels, Annotations: c.cfg.Annotations})
	}
	return out, nil
}

func (r *rt) ContainerStatus(_ context.Context, q *api.ContainerStatusRequest) (*api.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[q.ContainerId]
	if c == nil {
		return nil, status.Errorf(codes.NotFound, "no container %s", q.ContainerId)
	}
	return &api.ContainerStatusResponse{Status: &api.ContainerStatus{
		Id: c.id, Metadata: c.cfg.Metadata, State: c.state, CreatedAt: c.created.UnixNano(), StartedAt: nano(c.started), FinishedAt: nano(c.finished),
		ExitCode: c.exitCode, Image: c.cfg.Image, ImageRef: c.cfg.Image.GetImage(), ImageId: c.cfg.Image.GetImage(), Reason: c.reason,
		Labels: c.cfg.Labels, Annotations: c.cfg.Annotations, Mounts: c.cfg.Mounts, LogPath: c.logPath,
	}}, nil
}

func (r *rt) UpdateContainerResources(context.Context, *api.UpdateContainerResourcesRequest) (*api.UpdateContainerResourcesResponse, error) {
	return &api.UpdateContainerResourcesResponse{}, nil
}

func (r *rt) ReopenContainerLog(context.Context, *api.ReopenContainerLogRequest) (*api.ReopenContainerLogResponse, error) {
	return &api.ReopenContainerLogResponse{}, nil
}

func (r *rt) ListContainerStats(context.Context, *api.ListContainerStatsRequest) (*api.ListContainerStatsResponse, error) {
	return &api.ListContainerStatsResponse{}, nil
}
