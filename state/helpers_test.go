package state

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fullDisk is a directory with room for a few records and no more.
func fullDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a small file system here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// roleVariable has the role for which a test starts this test binary again; see play.
const roleVariable = "RUNCH_STATE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// running starts a shell script that is killed at the end of the test, and gives
// the number in the first line that it prints.
func running(t *testing.T, cloneFlags uintptr, script string) (pid, printed int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make pid namespaces")
	}
	cmd := exec.CommandContext(context.Background(), "sh") // t.Context ends before Cleanup
	cmd.Args = append(cmd.Args, "-c", script)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneFlags}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if printed, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, printed
}

// newInit starts the init of a new pid namespace.
func newInit(t *testing.T) Process {
	t.Helper()
	pid, _ := running(t, syscall.CLONE_NEWPID, "echo 0; exec sleep 300")
	return processOf(t, pid)
}

// memberOf starts a process in the pid namespace of another, as an exec does: its
// parent is outside, and never waits for it.
func memberOf(t *testing.T, init Process) Process {
	t.Helper()
	parent, pid := running(t, 0, "exec nsenter --no-fork --pid="+pidNamespacePath(init.PID)+
		" sh -c 'sleep 300 >/dev/null & echo $!; exec sleep 300'")
	eventually(t, "the parent is no shell", func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent))
		return err == nil && string(name) == "sleep\n"
	})
	return processOf(t, pid)
}

func processOf(t *testing.T, pid int) Process {
	t.Helper()
	p, err := ProcessOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// childOf is the only child of a process, which may be about to start it.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	var child int
	eventually(t, "a child", func() bool {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			t.Fatal(err)
		}
		child, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	return child
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(10 * time.Second); !is(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
