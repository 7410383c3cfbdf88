package storage

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestViewOf checks that the process stays in its mount namespace, whichever of its threads
// joins the other one.
func TestViewOf(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to join a mount namespace")
	}
	other := exec.CommandContext(context.Background(), "sleep", "300") // t.Context ends before Cleanup
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	own := mountNS(t)
	// The scheduler chooses the thread. Repeat, so that it chooses the process's first one, too.
	for range 50 {
		tree, err := viewOf(other.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		tree.close()
		if now := mountNS(t); now != own {
			t.Fatalf("the process is in %s now, no longer in %s", now, own)
		}
	}
}

func mountNS(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	return link
}
