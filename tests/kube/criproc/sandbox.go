package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is what the containers of a pod share: its namespaces, addresses and names.
type sandbox struct {
	id      string
	cfg     *api.PodSandboxConfig
	created time.Time
	hostNet bool
	cmd     *exec.Cmd
	veth    string
	addrs   []netip.Addr
	ready   bool
	handler string
	resolv  string
}

func (r *rt) RunPodSandbox(_ context.Context, q *api.RunPodSandboxRequest) (*api.RunPodSandboxResponse, error) {
	cfg := q.Config
	s := &sandbox{id: newID(), cfg: cfg, created: time.Now(), handler: q.RuntimeHandler}
	s.hostNet = cfg.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == api.NamespaceMode_NODE
	host := cfg.Hostname
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL, Setsid: true}
	if s.hostNet {
		host = r.hostname
	} else {
		attr.Cloneflags |= syscall.CLONE_NEWNET
	}
	s.cmd = exec.Command(self(), "sandbox-init", host)
	s.cmd.SysProcAttr = attr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if !s.hostNet {
		r.mu.Lock()
		addrs, err := r.ipam.take()
		gws := gateways(r.ipam.prefixes)
		s.veth = fmt.Sprintf("ve%s", s.id[:10])
		r.mu.Unlock()
		if err == nil && len(addrs) == 0 {
			err = errors.New("no pod CIDR")
		}
		if err == nil {
			s.addrs = addrs
			err = connect(s.cmd.Process.Pid, s.veth, addrs, gws)
		}
		if err != nil {
			s.kill()
			r.mu.Lock()
			r.ipam.free(s.addrs)
			r.mu.Unlock()
			return nil, err
		}
	}
	if d := cfg.DnsConfig; d != nil && len(d.Servers) > 0 {
		var b strings.Builder
		for _, x := range d.Servers {
			fmt.Fprintf(&b, "nameserver %s\n", x)
		}
		if len(d.Searches) > 0 {
			fmt.Fprintf(&b, "search %s\n", strings.Join(d.Searches, " "))
		}
		if len(d.Options) > 0 {
			fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
		}
		s.resolv = filepath.Join(r.state, s.id+".resolv.conf")
		if err := os.WriteFile(s.resolv, []byte(b.String()), 0o644); err != nil {
			return nil, err
		}
	}
	s.ready = true
	if cfg.LogDirectory != "" {
		os.MkdirAll(cfg.LogDirectory, 0o755)
	}
	r.mu.Lock()
	r.sandboxes[s.id] = s
	r.mu.Unlock()
	log.Printf("sandbox %s %s/%s %v", s.id[:10], cfg.Metadata.Namespace, cfg.Metadata.Name, s.addrs)
	return &api.RunPodSandboxResponse{PodSandboxId: s.id}, nil
}

func (s *sandbox) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (r *rt) StopPodSandbox(ctx context.Context, q *api.StopPodSandboxRequest) (*api.StopPodSandboxResponse, error) {
	r.mu.Lock()
	s := r.sandboxes[q.PodSandboxId]
	var cs []*container
	for _, c := range r.containers {
		if s != nil && c.sandboxID == s.id {
			cs = append(cs, c)
		}
	}
	if s == nil || !s.ready {
		r.mu.Unlock()
		return &api.StopPodSandboxResponse{}, nil
	}
	s.ready = false
	r.mu.Unlock()
	for _, c := range cs {
		r.stop(c, 0)
	}
	if s.veth != "" {
		// Removing the veth now frees the addresses before the last socket goes.
		ipBatch(0, []string{"link del " + s.veth})
	}
	s.kill()
	r.mu.Lock()
	r.ipam.free(s.addrs)
	r.mu.Unlock()
	return &api.StopPodSandboxResponse{}, nil
}

func (r *rt) RemovePodSandbox(ctx context.Context, q *api.RemovePodSandboxRequest) (*api.RemovePodSandboxResponse, error) {
	r.StopPodSandbox(ctx, &api.StopPodSandboxRequest{PodSandboxId: q.PodSandboxId})
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range r.containers {
		if c.sandboxID == q.PodSandboxId {
			delete(r.containers, id)
		}
	}
	if s := r.sandboxes[q.PodSandboxId]; s != nil && s.resolv != "" {
		os.Remove(s.resolv)
	}
	delete(r.sandboxes, q.PodSandboxId)
	return &api.RemovePodSandboxResponse{}, nil
}

// st is its state as the CRI names it.
func (s *sandbox) st() api.PodSandboxState {
	if s.ready {
		return api.PodSandboxState_SANDBOX_READY
	}
	return api.PodSandboxState_SANDBOX_NOTREADY
}

func (r *rt) PodSandboxStatus(_ context.Context, q *api.PodSandboxStatusRequest) (*api.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[q.PodSandboxId]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "no sandbox %s", q.PodSandboxId)
	}
	n := &api.PodSandboxNetworkStatus{}
	for i, a := range s.addrs {
		if i == 0 {
			n.Ip = a.String()
		} else {
			n.AdditionalIps = append(n.AdditionalIps, &api.PodIP{Ip: a.String()})
		}
	}
	return &api.PodSandboxStatusResponse{Status: &api.PodSandboxStatus{
		Id: s.id, Metadata: s.cfg.Metadata, State: s.st(), CreatedAt: s.created.UnixNano(), Network: n,
		Linux:  &api.LinuxPodSandboxStatus{Namespaces: &api.Namespace{Options: s.cfg.GetLinux().GetSecurityContext().GetNamespaceOptions()}},
		Labels: s.cfg.Labels, Annotations: s.cfg.Annotations, RuntimeHandler: s.handler,
	}}, nil
}

func (r *rt) ListPodSandbox(_ context.Context, q *api.ListPodSandboxRequest) (*api.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &api.ListPodSandboxResponse{}
	f := q.Filter
	for _, s := range r.sandboxes {
		if f.GetId() != "" && f.GetId() != s.id || f.GetState() != nil && f.GetState().State != s.st() || !matches(f.GetLabelSelector(), s.cfg.Labels) {
			continue
		}
		out.Items = append(out.Items, &api.PodSandbox{Id: s.id, Metadata: s.cfg.Metadata, State: s.st(), CreatedAt: s.created.UnixNano(), Labels: s.cfg.Labels, Annotations: s.cfg.Annotations, RuntimeHandler: s.handler})
	}
	return out, nil
}

func (r *rt) ListPodSandboxStats(context.Context, *api.ListPodSandboxStatsRequest) (*api.ListPodSandboxStatsResponse, error) {
	return &api.ListPodSandboxStatsResponse{}, nil
}
