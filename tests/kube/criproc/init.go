package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sandboxInit runs in fresh network and UTS namespaces (or, with the node's network, in a fresh UTS namespace only)
// and keeps them alive.
func sandboxInit(hostname string) {
	must(unix.Sethostname([]byte(hostname)))
	sleep, err := exec.LookPath("sleep")
	must(err)
	must(unix.Exec(sleep, []string{"sleep", "infinity"}, nil))
}

// containerSpec is what the runtime hands to container-init in $CRIPROC_SPEC.
type containerSpec struct {
	SandboxPID   int
	Root         string // directory to build the root file system in
	Args         []string
	Env          []string
	Dir          string
	Mounts       []bind
	UID, GID     int
	Groups       []int
	ReadOnlyRoot bool
	NoNewPrivs   bool
}

// bind is a path of this machine that a container sees.
type bind struct {
	Host, Container string
	ReadOnly        bool
}

// containerInit runs as PID 1 of the container's PID namespace and in its own mount namespace; it joins the sandbox's
// network and UTS namespaces, builds the root, drops to the container's user and becomes the container's command.
func containerInit() {
	runtime.LockOSThread() // network and UTS namespaces are the thread's
	var s containerSpec
	must(json.Unmarshal([]byte(os.Getenv("CRIPROC_SPEC")), &s))
	for _, ns := range []string{"net", "uts"} {
		// The parent's /proc is still mounted here, so the parent's PIDs hold.
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", s.SandboxPID, ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(err)
		must(unix.Setns(fd, 0))
	}
	buildRoot(&s)
	if s.Dir != "" {
		must(os.Chdir(s.Dir))
	}
	path := lookUp(s.Args[0], s.Env)
	if s.NoNewPrivs {
		must(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	}
	must(syscall.Setgroups(s.Groups))
	must(syscall.Setgid(s.GID))
	must(syscall.Setuid(s.UID))
	// A change of user clears it, and without it the command would outlive a killed runtime.
	must(unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0))
	if err := unix.Exec(path, s.Args, s.Env); err != nil {
		fmt.Fprintf(os.Stderr, "criproc: exec %s: %v\n", path, err)
		os.Exit(127)
	}
}

// tree is a detached copy of a mount, taken before the root changes.
type tree struct {
	fd   int
	dir  bool
	dest bind
}

// buildRoot gives this mount namespace a throw-away overlay over the machine's file system as its root, with the
// container's volumes in it.
func buildRoot(s *containerSpec) {
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(os.MkdirAll(s.Root, 0o755))
	must(unix.Mount("tmpfs", s.Root, "tmpfs", 0, "mode=755"))
	up, work, root := s.Root+"/up", s.Root+"/work", s.Root+"/root"
	for _, d := range []string{up, work, root} {
		must(os.Mkdir(d, 0o755))
	}
	must(unix.Mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+up+",workdir="+work))
	var trees []tree
	for _, m := range append([]bind{{Host: "/dev", Container: "/dev"}}, s.Mounts...) {
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Host, unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE|unix.OPEN_TREE_CLOEXEC)
		must(wrap("volume "+m.Host, err))
		st, err := os.Stat(m.Host)
		must(err)
		trees = append(trees, tree{fd, st.IsDir(), m})
	}
	must(os.Chdir(root))
	must(unix.PivotRoot(".", "."))
	must(unix.Unmount(".", unix.MNT_DETACH))
	must(os.Chdir("/"))
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	must(unix.Mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY, ""))
	must(unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"))
	for _, t := range trees {
		t.attach()
	}
	if s.ReadOnlyRoot {
		must(unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	}
}

func (t tree) attach() {
	at := t.dest.Container
	if t.dir {
		must(os.MkdirAll(at, 0o755))
	} else if _, err := os.Stat(at); err != nil {
		must(os.MkdirAll(filepath.Dir(at), 0o755))
		must(os.WriteFile(at, nil, 0o644))
	}
	must(wrap("mount at "+at, unix.MoveMount(t.fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)))
	if t.dest.ReadOnly {
		must(unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	}
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// lookUp finds a command in the PATH of env.
func lookUp(command string, env []string) string {
	if strings.Contains(command, "/") {
		return command
	}
	for _, e := range env {
		v, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, d := range filepath.SplitList(v) {
			if p := filepath.Join(d, command); unix.Access(p, unix.X_OK) == nil {
				return p
			}
		}
	}
	return command
}
