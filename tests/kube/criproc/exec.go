package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// enter builds a command inside the container's namespaces.
func (r *rt) enter(id string, cmd []string) (*exec.Cmd, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || c.state != api.ContainerState_CONTAINER_RUNNING {
		return nil, fmt.Errorf("container %s is not running", id)
	}
	u := c.user()
	args := []string{"-t", fmt.Sprint(c.cmd.Process.Pid), "-n", "-u", "-m", "-p"}
	if u.uid != 0 {
		args = append(args, "-S", fmt.Sprint(u.uid), "-G", fmt.Sprint(u.gid))
	}
	x := exec.Command("nsenter", append(append(args, "--"), cmd...)...)
	x.Env = []string{r.path}
	for _, e := range c.cfg.Envs {
		x.Env = append(x.Env, e.Key+"="+string(e.Value))
	}
	x.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return x, nil
}

// run runs x and kills its whole session's process group when ctx ends.
func run(ctx context.Context, x *exec.Cmd) (int, error) {
	if err := x.Start(); err != nil {
		return -1, err
	}
	done := make(chan error, 1)
	go func() { done <- x.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		syscall.Kill(-x.Process.Pid, syscall.SIGKILL)
		<-done
		return -1, ctx.Err()
	}
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return ee.ExitCode(), nil
	}
	return 0, err
}

func (r *rt) ExecSync(ctx context.Context, q *api.ExecSyncRequest) (*api.ExecSyncResponse, error) {
	x, err := r.enter(q.ContainerId, q.Cmd)
	if err != nil {
		return nil, err
	}
	if q.Timeout > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, time.Duration(q.Timeout)*time.Second)
		defer cancel()
	}
	var o, e bytes.Buffer
	x.Stdout, x.Stderr = &o, &e
	code, err := run(ctx, x)
	if err != nil {
		return nil, status.Errorf(codes.DeadlineExceeded, "exec: %v", err)
	}
	return &api.ExecSyncResponse{Stdout: o.Bytes(), Stderr: e.Bytes(), ExitCode: int32(code)}, nil
}

func (r *rt) Exec(_ context.Context, q *api.ExecRequest) (*api.ExecResponse, error) {
	return r.stream.GetExec(q)
}

func (r *rt) PortForward(_ context.Context, q *api.PortForwardRequest) (*api.PortForwardResponse, error) {
	return r.stream.GetPortForward(q)
}

// streams serves exec over the kubelet's streaming connection.
type streams struct{ r *rt }

func (s streams) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errw io.WriteCloser, tty bool, _ <-chan remotecommand.TerminalSize) error {
	x, err := s.r.enter(id, cmd)
	if err != nil {
		return err
	}
	if in != nil {
		// A pipe of our own, so that Wait does not wait for the client's end.
		p, err := x.StdinPipe()
		if err != nil {
			return err
		}
		go func() { io.Copy(p, in); p.Close() }()
	}
	if out != nil {
		x.Stdout = out
	}
	if errw != nil {
		x.Stderr = errw
	}
	code, err := run(ctx, x)
	if err != nil {
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

func (s streams) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return errors.New("attach is not supported")
}

func (s streams) PortForward(context.Context, string, int32, io.ReadWriteCloser) error {
	return errors.New("port forward is not supported")
}
