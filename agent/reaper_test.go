package agent

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// adopt makes this process inherit orphans, as PID 1 does.
func adopt(t *testing.T) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Skipf("cannot be a subreaper: %v", err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

// gone waits until pid is no process any more, not even a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		select {
		case <-deadline:
			t.Fatalf("process %d is still there", pid)
		case <-tick.C:
		}
	}
}

func startReaper(t *testing.T) *reaper {
	t.Helper()
	adopt(t)
	r := newReaper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.run(t.Context())
	}()
	// A reaper that still runs would take the next test's children.
	t.Cleanup(func() { <-ended })
	return r
}

func TestReaperWaitsForOrphans(t *testing.T) {
	r := startReaper(t)
	r.begin()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "sh -c 'exit 3' & echo $!").Output()
	r.end(0)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}

func TestReaperLeavesTheOthersTheirStatus(t *testing.T) {
	r := startReaper(t)
	for code := range 20 {
		r.begin()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "exit "+strconv.Itoa(code))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// An orphan's end wakes the reaper while the child waits to be waited for.
		if err := exec.CommandContext(t.Context(), "sh", "-c", "true & true").Run(); err != nil {
			t.Fatal(err)
		}
		r.end(cmd.Process.Pid)
		r.wake()
		_ = cmd.Wait()
		if got := exitCode(cmd.ProcessState); got != uint32(code) {
			t.Errorf("code %d, want %d", got, code)
		}
		r.untrack(cmd.Process.Pid)
	}
}

func TestReaperWaitsWhileSomethingStarts(t *testing.T) {
	r := startReaper(t)
	r.begin()
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatalf("the child was taken: %v", err)
	}
	if pid, err := peekChild(); err != nil || pid == 0 {
		t.Errorf("peek gave %d, %v", pid, err)
	}
	if r.reapOne() {
		t.Error("reaped while something starts")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	r.end(0)
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		script string
		want   uint32
	}{{"exit 0", 0}, {"exit 255", 255}, {"kill -TERM $$", 143}, {"kill -KILL $$", 137}} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", tc.script)
		cmd.Stdin, _ = os.Open(os.DevNull)
		_ = cmd.Run()
		if got := exitCode(cmd.ProcessState); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.script, got, tc.want)
		}
	}
	if exitCode(nil) != lostExit {
		t.Error("a status that is lost")
	}
}
