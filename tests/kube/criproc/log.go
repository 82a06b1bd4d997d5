package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// criLog writes what a container says in the CRI log format, which `kubectl logs` reads.
type criLog struct {
	mu      sync.Mutex
	file    *os.File
	readers sync.WaitGroup
	ends    []io.Closer
}

func newLog(path string) (*criLog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &criLog{file: f}, err
}

// stream is where one of the container's outputs goes, line by line.
func (l *criLog) stream(name string) io.Writer {
	pr, pw := io.Pipe()
	l.ends = append(l.ends, pw)
	l.readers.Add(1)
	go func() {
		defer l.readers.Done()
		sc := bufio.NewReader(pr)
		for {
			line, err := sc.ReadString('\n')
			if line != "" {
				l.mu.Lock()
				fmt.Fprintf(l.file, "%s %s F %s\n", time.Now().Format(time.RFC3339Nano), name, strings.TrimSuffix(line, "\n"))
				l.mu.Unlock()
			}
			if err != nil {
				return
			}
		}
	}()
	return pw
}

// Close waits until everything that was said is written.
func (l *criLog) Close() error {
	for _, c := range l.ends {
		c.Close()
	}
	l.readers.Wait()
	return l.file.Close()
}
