package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// logLimit bounds a log of what a guest or a VMM says, in bytes.
const logLimit = 256 << 10

// boundedLog is a file that keeps the end of what is written to it: once it is
// full, its first half goes.
type boundedLog struct {
	mu   sync.Mutex
	file *os.File
	size int
}

func newBoundedLog(path string) (*boundedLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a log: %w", err)
	}
	return &boundedLog{file: f}, nil
}

// Write never fails for the writer: a full disk must not stop the guest.
func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	if len(p) > logLimit/2 {
		p = p[len(p)-logLimit/2:]
	}
	if l.size+len(p) > logLimit {
		l.forget()
	}
	if written, err := l.file.WriteAt(p, int64(l.size)); err == nil {
		l.size += written
	}
	return n, nil
}

// forget drops the first half.
func (l *boundedLog) forget() {
	keep := make([]byte, logLimit/2)
	n, err := l.file.ReadAt(keep, int64(max(0, l.size-len(keep))))
	if err != nil && !errors.Is(err, io.EOF) {
		n = 0
	}
	l.size = 0
	if err := l.file.Truncate(0); err != nil {
		return
	}
	if _, err := l.file.WriteAt(keep[:n], 0); err == nil {
		l.size = n
	}
}
