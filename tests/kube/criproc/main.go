// criproc is a CRI runtime for test laboratories without a container engine: containers are processes of this
// machine's own programs, and an unmodified kubelet drives it.
//
// A sandbox is a process that holds a network and a UTS namespace. A container is a process with its own PID and mount
// namespace inside them; its root is a throw-away overlay over this machine's file system. An image is a name for a
// program of this machine. The user, the group, a read-only root and "no new privileges" of a security context hold;
// capabilities and resource limits are ignored. Nothing of it outlives the runtime.
//
// One runs for each node, in the node's network and mount namespace:
//
//	criproc --socket RUN/cri.sock --state RUN/cri --hostname n1 --images images.json --tools DIR
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "sandbox-init":
			sandboxInit(os.Args[2])
			return
		case "container-init":
			containerInit()
			return
		}
	}
	var socket, state, hostname, tools, imageFile string
	flag.StringVar(&socket, "socket", "", "unix socket to serve the CRI on")
	flag.StringVar(&state, "state", "", "directory for the runtime's own files")
	flag.StringVar(&hostname, "hostname", "", "host name for pods with hostNetwork")
	flag.StringVar(&imageFile, "images", "", "JSON file: image name without registry and tag -> {binary, args, uid}")
	flag.StringVar(&tools, "tools", "", "directory of commands as the images have them, first in PATH")
	flag.Parse()
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	must(os.MkdirAll(state, 0o755))
	text, err := os.ReadFile(imageFile)
	must(err)
	images := map[string]image{}
	must(json.Unmarshal(text, &images))
	// The socket of a runtime that was killed.
	os.Remove(socket)
	l, err := net.Listen("unix", socket)
	must(err)
	rt := newRuntime(state, hostname, images)
	rt.path = "PATH=" + tools + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	cfg := streaming.DefaultConfig
	cfg.Addr = "127.0.0.1:0"
	rt.stream, err = streaming.NewServer(cfg, streams{rt})
	must(err)
	go func() { must(rt.stream.Start(true)) }()
	s := grpc.NewServer(grpc.UnaryInterceptor(logErrors))
	runtimeapi.RegisterRuntimeServiceServer(s, rt)
	runtimeapi.RegisterImageServiceServer(s, &imageService{rt: rt})
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-sig
		rt.killAll()
		os.Exit(0)
	}()
	must(s.Serve(l))
}

func logErrors(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	res, err := h(ctx, req)
	if err != nil {
		log.Printf("%s: %v", info.FullMethod, err)
	}
	return res, err
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
