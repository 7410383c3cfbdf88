package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runch/procstat"
)

// isZombie tells whether the process waits to be reaped.
func isZombie(p Process) bool {
	st, err := procstat.Of(p.PID)
	return err == nil && st.StartTime == p.StartTime && st.Zombie()
}

// killSoon kills a process that nothing keeps from ending.
func killSoon(t *testing.T, p Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Kill(ctx); err != nil {
		t.Error(err)
	}
	if p.Alive() {
		t.Error("the process is alive")
	}
}

// The kernel lets an init become a zombie only after every other process of its
// namespace was reaped.
func TestInitWithAZombieIsDead(t *testing.T) {
	init := newInit(t)
	member := memberOf(t, init)
	killSoon(t, member)
	if !isZombie(member) {
		t.Fatal("the member is no zombie")
	}
	if !init.Alive() {
		t.Error("an init that runs is dead")
	}
	killSoon(t, init)
	if isZombie(init) {
		t.Error("the init is a zombie already")
	}
	// Another Kill, of a later command, finds it dead.
	killSoon(t, init)
}

func TestInitsAboveAZombieAreDead(t *testing.T) {
	pid, _ := running(t, syscall.CLONE_NEWPID, "echo 0; exec unshare --pid --fork sleep 300")
	outer := processOf(t, pid)
	inner := processOf(t, childOf(t, outer.PID))
	eventually(t, "the inner one is an init", func() bool { return isNamespaceInit(inner.PID) })
	member := memberOf(t, inner)
	killSoon(t, outer)
	for name, p := range map[string]Process{"inner": inner, "outer": outer} {
		if p.Alive() || isZombie(p) {
			t.Errorf("the %s init: alive %v, zombie %v", name, p.Alive(), isZombie(p))
		}
	}
	if !isZombie(member) {
		t.Error("the member is no zombie")
	}
}

// A process in the namespace that does not end keeps its init alive. A process in a
// frozen cgroup does not end until it is thawed.
func TestInitWithAProcessIsAlive(t *testing.T) {
	init := newInit(t)
	member := memberOf(t, init)
	thaw := freeze(t, member)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := init.Kill(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	eventually(t, "the init waits for others", func() bool { return isWaitingInit(init.PID) })
	if !init.Alive() {
		t.Error("an init with a process in its namespace is dead")
	}
	thaw()
	killSoon(t, init)
}

// freeze stops a process with a cgroup of v1, where even SIGKILL has to wait.
func freeze(t *testing.T, p Process) (thaw func()) {
	t.Helper()
	dir := fmt.Sprintf("/sys/fs/cgroup/freezer/runch-test-%d", p.PID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Skipf("SKIPPED: no freezer of cgroup v1 here: %v", err)
	}
	write := func(file, text string) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		write("freezer.state", "THAWED")
		eventually(t, "an empty cgroup", func() bool { return os.Remove(dir) == nil })
	})
	write("cgroup.procs", strconv.Itoa(p.PID))
	write("freezer.state", "FROZEN")
	eventually(t, "a frozen process", func() bool {
		state, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
		return err == nil && string(state) == "FROZEN\n"
	})
	return func() { write("freezer.state", "THAWED") }
}

// A process ends with the last of its threads.
func TestProcessWithoutItsFirstThreadIsAlive(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=threads")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := processOf(t, cmd.Process.Pid)
	eventually(t, "the end of the first thread", func() bool {
		st, err := procstat.Of(p.PID)
		return err == nil && st.Dead()
	})
	if !p.Alive() {
		t.Error("a process is dead whose other threads run")
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// endFirstThread ends the first thread of the process. The other threads end the process
// when its standard input ends.
func endFirstThread() error {
	const enough = 100 // threads, so that the first is among them
	for range enough {
		go awaitInput()
	}
	select {}
}

func awaitInput() {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go awaitInput()
		_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func TestAwaitEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(t.Context(), "sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := processOf(t, cmd.Process.Pid)
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := p.AwaitEnd(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v of a wait that was cancelled", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.AwaitEnd(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v of a process that does not end", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = cmd.Process.Kill() })
	if err := p.AwaitEnd(t.Context()); err != nil {
		t.Errorf("got %v of a process that was killed", err)
	}
	_ = cmd.Wait()
	if err := p.AwaitEnd(t.Context()); err != nil {
		t.Errorf("got %v of a process that is no more", err)
	}
}

// Another process that was given the same pid is left alone.
func TestKillSparesAnother(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	self.StartTime++
	if err := self.Kill(t.Context()); err != nil {
		t.Error(err)
	}
}
