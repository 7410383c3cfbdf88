package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"runch/state"
)

func TestDestroyWaitsForProcesses(t *testing.T) {
	path, cmd := testPath(t), sleeper(t)
	c := apply(t, path, nil, 0, cmd.Process.Pid)
	// It is killed and not reaped, like a shim whose subreaper is slow.
	var killed atomic.Bool
	timer := time.AfterFunc(150*time.Millisecond, func() {
		killed.Store(true)
		_ = cmd.Process.Kill()
	})
	defer timer.Stop()
	if err := c.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !killed.Load() {
		t.Error("it did not wait for the process")
	}
}

func TestDestroyGivesUpOnLiveProcesses(t *testing.T) {
	path, cmd := testPath(t), sleeper(t)
	c := apply(t, path, nil, 0, cmd.Process.Pid)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Destroy(ctx); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	end(t, cmd)
	if err := c.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestDestroyTakesWhatIsBelow(t *testing.T) {
	path, cmd := testPath(t), sleeper(t)
	c := apply(t, path, nil, 0, cmd.Process.Pid)
	for _, dir := range c.Paths() {
		if err := os.MkdirAll(filepath.Join(dir, "container", "deeper"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	end(t, cmd)
	if err := c.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The kernel keeps an init that has ended until all processes of its pid namespace are
// reaped. A process that joined from outside has a parent that may never reap it.
func TestDestroyBesideZombies(t *testing.T) {
	path := testPath(t)
	init, _ := running(t, syscall.CLONE_NEWPID, "echo 0; exec sleep 300")
	c := apply(t, path, nil, 0, init)
	parent, member := running(t, 0, fmt.Sprintf("exec nsenter --no-fork --pid=/proc/%d/ns/pid"+
		" sh -c 'sleep 300 >/dev/null & echo $!; exec sleep 300'", init))
	if err := Join(init, member); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	awaitName(ctx, t, parent, "sleep") // a shell might reap
	for _, pid := range []int{member, init} {
		p, err := state.ProcessOf(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Kill(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Destroy(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", member)); err != nil {
		t.Errorf("the zombie was reaped: %v", err)
	}
}

// running starts a shell script that is killed at the end of the test. It returns the
// shell's pid and the number in the first line that the script prints.
func running(t *testing.T, cloneFlags uintptr, script string) (pid, printed int) {
	t.Helper()
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

// awaitName waits until the process runs a program of this name.
func awaitName(ctx context.Context, t *testing.T, pid int, name string) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		got, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) == name+"\n" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("process %d is %s", pid, got)
		case <-ticker.C:
		}
	}
}

// TestOwnCgroupIsNoLeftover checks that nothing is removed for a process in this one's
// cgroup, as for one that could not get a cgroup of its own.
func TestOwnCgroupIsNoLeftover(t *testing.T) {
	l, err := LeftoverOf(sleeper(t).Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.paths) > 0 {
		t.Errorf("left are %v", l.paths)
	}
}
