package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Any thread may stay behind in the containers' namespace except the process's
// first one: /proc/self shows that thread's namespace, which libcontainer takes for
// the agent's own, and Go never ends the thread.
func TestMakingTheNetNSLeavesTheAgentInItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range 200 { // the thread that it runs on is random
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := makeNetNS(path); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		now, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		if now != own {
			t.Fatalf("the process's first thread is in %s, not in %s, after %d", now, own, i)
		}
	}
}

func TestAdoptNetNS(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	path := filepath.Join(t.TempDir(), "netns")
	if err := makeNetNS(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	child := exec.CommandContext(t.Context(), "cat")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := adoptNetNS(child.Process.Pid, path); err != nil {
		t.Error(err)
	}
	var theirs, adopted unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", child.Process.Pid), &theirs); err != nil {
		t.Error(err)
	}
	if err := unix.Stat(path, &adopted); err != nil || adopted.Ino != theirs.Ino {
		t.Errorf("namespace %d, not the child's %d, %v", adopted.Ino, theirs.Ino, err)
	}
	if err := errors.Join(in.Close(), child.Wait()); err != nil {
		t.Error(err)
	}
}
