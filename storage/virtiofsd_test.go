package storage

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestServeFileLimit: virtiofsd may have as many files open as a guest remembers, whatever the caller's soft limit is.
func TestServeFileLimit(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "virtiofsd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	// The caller's own soft limit is lower.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: own.Max - 1, Max: own.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &own) }()
	s, err := (&Virtiofsd{Path: program, Flavour: FlavourRust}).Serve(dir, filepath.Join(dir, "socket"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		s.Kill()
		<-s.Done()
	}()
	var has unix.Rlimit
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &has); err != nil {
		t.Fatal(err)
	}
	// Without privileges, the caller's hard limit is the most that is allowed.
	if has.Cur != has.Max || has.Cur != own.Max && has.Cur != maxFiles {
		t.Errorf("the limit is %d of %d, want %d or %d", has.Cur, has.Max, own.Max, maxFiles)
	}
}
