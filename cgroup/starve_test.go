package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// TestStarve checks that a listener to the cgroup's memory is notified, and that only the
// victim is killed.
func TestStarve(t *testing.T) {
	path, bystander := testPath(t), sleeper(t)
	c := apply(t, path, memory(256<<20).Resources, 0, bystander.Process.Pid)
	t.Cleanup(func() {
		end(t, bystander)
		if err := c.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	full, eaten, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	victim, in := actor(t, "eat", eaten)
	_ = eaten.Close()
	pid := victim.Process.Pid
	if err := Join(bystander.Process.Pid, pid); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), "oom_score_adj"), []byte("1000"), 0); err != nil {
		t.Fatal(err)
	}
	limit, told := memoryLimit(t, c), listen(t, c)

	m, err := OpenMemory(MemoryDir(c.Paths()))
	if err != nil {
		t.Fatal(err)
	}
	err = m.Starve(Victim{
		PID: pid,
		Take: func(int) error {
			_, err := in.Write([]byte{'\n'})
			if n, _ := full.Read(make([]byte, 1)); n == 0 {
				return err // it was killed
			}
			return errors.Join(err, unix.Kill(pid, unix.SIGSTOP),
				unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil))
		},
		Ended: func() error {
			_ = in.Close()
			_ = unix.Kill(pid, unix.SIGCONT)
			_ = victim.Wait()
			if victim.ProcessState.String() != "signal: killed" {
				return errors.New("the victim has ended otherwise: " + victim.ProcessState.String())
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !told() {
		t.Error("nobody was told")
	}
	if got := memoryLimit(t, c); got != limit {
		t.Errorf("the limit is %s, and was %s", got, limit)
	}
	if in := read(t, MemoryDir(c.Paths()), "cgroup.procs"); in != strconv.Itoa(bystander.Process.Pid) {
		t.Errorf("in the cgroup: %q", in)
	}
	if children, err := filepath.Glob(filepath.Join(MemoryDir(c.Paths()), "*", "cgroup.procs")); err != nil || len(children) > 0 {
		t.Errorf("children of the cgroup: %v, %v", children, err)
	}
}

// listen listens to the cgroup's memory as callers do: on cgroup v1 by an eventfd, on
// v2 by a file. The result tells whether the listener was notified of a kill.
func listen(t *testing.T, c *Cgroup) func() bool {
	t.Helper()
	dir := MemoryDir(c.Paths())
	if cgroups.IsCgroup2UnifiedMode() {
		return listenV2(t, dir)
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	words := strconv.Itoa(fd) + " " + strconv.Itoa(int(control.Fd()))
	if err := cgroups.WriteFile(dir, "cgroup.event_control", words); err != nil {
		t.Fatal(err)
	}
	return func() bool {
		_, err := unix.Read(fd, make([]byte, 8))
		return err == nil
	}
}

// listenV2 listens as conmon does, for which the first event has to be a kill.
func listenV2(t *testing.T, dir string) func() bool {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	notes := os.NewFile(uintptr(fd), "inotify")
	t.Cleanup(func() { _ = notes.Close() })
	name := filepath.Join(dir, "memory.events")
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	first := make(chan string, 1)
	go func() {
		_, _ = notes.Read(make([]byte, 4096))
		events, _ := os.ReadFile(name) // an empty one fails the test
		first <- string(events)
	}()
	return func() bool {
		if events := <-first; !strings.Contains(events, "\noom ") || strings.Contains(events, "\noom 0\n") {
			t.Errorf("what was told first is no kill: %q", events)
		}
		return !strings.Contains(read(t, dir, "memory.events")+"\n", "\noom_kill 0\n")
	}
}
