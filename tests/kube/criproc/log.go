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

// criLog writes the CRI log format.
type criLog struct {
	mu sync.Mutex
	f  *os.File
	wg sync.WaitGroup
	cl []io.Closer
}

func newLog(p string) (*criLog, error) {
	os.MkdirAll(filepath.Dir(p), 0o755)
	f, err := os.OpenFile(p, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &criLog{f: f}, err
}

func (l *criLog) stream(name string) io.Writer {
	pr, pw := io.Pipe()
	l.cl = append(l.cl, pw)
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		sc := bufio.NewReader(pr)
		for {
			line, err := sc.ReadString('\n')
			if line != "" {
				l.mu.Lock()
				fmt.Fprintf(l.f, "%s %s F %s\n", time.Now().Format(time.RFC3339Nano), name, strings.TrimSuffix(line, "\n"))
				l.mu.Unlock()
			}
			if err != nil {
				return
			}
		}
	}()
	return pw
}

func (l *criLog) Close() error {
	for _, c := range l.cl {
		c.Close()
	}
	l.wg.Wait()
	return l.f.Close()
}
