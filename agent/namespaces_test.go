package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// nobody finds no container.
func nobody(string) (*container, error) { return nil, errNoContainer }

// asksFor is the Linux part of a spec with those namespaces, without paths.
func asksFor(types ...specs.LinuxNamespaceType) *specs.Linux {
	l := new(specs.Linux)
	for _, t := range types {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: t})
	}
	return l
}

// inode is that of the namespace at path.
func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// childIn starts a process in namespaces of its own, and gives a function that ends it.
func childIn(t *testing.T, flags uintptr) (pid int, end func()) {
	t.Helper()
	child, in := startChild(t, flags)
	return child.Process.Pid, func() {
		if err := errors.Join(in.Close(), child.Wait()); err != nil {
			t.Error(err)
		}
	}
}

// startChild starts a process in namespaces of its own, which lives until in is closed.
func startChild(t *testing.T, flags uintptr) (child *exec.Cmd, in io.Closer) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make namespaces")
	}
	child = exec.CommandContext(t.Context(), "cat")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	return child, in
}

// testNamespaces are a sandbox's that go with the test.
func testNamespaces(t *testing.T) *namespaces {
	t.Helper()
	n := newNamespaces(filepath.Join(t.TempDir(), "ns"))
	t.Cleanup(func() {
		for ns := range n.made {
			_ = unix.Unmount(n.path(ns), unix.MNT_DETACH)
		}
	})
	return n
}

func TestSandboxNamespacesAreMadeOnceAndStay(t *testing.T) {
	n := testNamespaces(t)
	pid, end := childIn(t, unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|unix.CLONE_NEWUSER)
	types := []specs.LinuxNamespaceType{specs.IPCNamespace, specs.UTSNamespace, specs.UserNamespace}
	shared := []*agentproto.SharedNamespace{{Type: "ipc"}, {Type: "uts"}, {Type: "user"}}
	first := asksFor(types...)
	s, err := n.join(t.Context(), shared, first, nobody)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[specs.LinuxNamespaceType]uint64)
	for _, ns := range first.Namespaces {
		want[ns.Type] = inode(t, fmt.Sprintf("/proc/%d/ns/%s", pid, ns.Type))
		if ns.Path != "" {
			t.Errorf("the first container joins %s", ns.Path)
		}
	}
	if err := s.pin(pid); err != nil {
		t.Fatal(err)
	}
	s.finish(nil)
	end()
	n.leave()
	for range 2 {
		next := asksFor(types...)
		s, err := n.join(t.Context(), shared, next, nobody)
		if err != nil {
			t.Fatal(err)
		}
		for _, ns := range next.Namespaces {
			if got := inode(t, ns.Path); got != want[ns.Type] {
				t.Errorf("%s namespace %d, not the first container's %d", ns.Type, got, want[ns.Type])
			}
		}
		if err := s.pin(0); err != nil {
			t.Errorf("there is nothing to keep: %v", err)
		}
		s.finish(errors.New("it was not made"))
	}
}

func TestNamespacesOfAContainerThatFailedAreMadeAnew(t *testing.T) {
	n := testNamespaces(t)
	shared := []*agentproto.SharedNamespace{{Type: "ipc"}}
	for range 2 {
		pid, end := childIn(t, unix.CLONE_NEWIPC)
		spec := asksFor(specs.IPCNamespace)
		s, err := n.join(t.Context(), shared, spec, nobody)
		if err != nil {
			t.Fatal(err)
		}
		if spec.Namespaces[0].Path != "" {
			t.Errorf("joins %s of a container that was not made", spec.Namespaces[0].Path)
		}
		if err := s.pin(pid); err != nil {
			t.Fatal(err)
		}
		s.finish(errors.New("no such program"))
		n.leave()
		end()
	}
	if mounts := mountsBelow(t, n.dir); mounts != 0 {
		t.Errorf("%d namespaces are kept", mounts)
	}
}

func TestTwoContainersDoNotMakeTheSameNamespace(t *testing.T) {
	n := testNamespaces(t)
	shared := []*agentproto.SharedNamespace{{Type: "uts"}}
	first, err := n.join(t.Context(), shared, asksFor(specs.UTSNamespace), nobody)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := n.join(ctx, nil, asksFor(), nobody); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a container that does not wait: %v", err)
	}
	joined := make(chan *specs.Linux)
	go func() {
		spec := asksFor(specs.UTSNamespace)
		if _, err := n.join(t.Context(), shared, spec, nobody); err != nil {
			t.Error(err)
		}
		joined <- spec
	}()
	pid, end := childIn(t, unix.CLONE_NEWUTS)
	if err := first.pin(pid); err != nil {
		t.Error(err)
	}
	select {
	case <-joined:
		t.Error("the second did not wait for the first")
	case <-time.After(20 * time.Millisecond):
	}
	first.finish(nil)
	if spec := <-joined; spec.Namespaces[0].Path != n.path(specs.UTSNamespace) {
		t.Errorf("the second joins %q", spec.Namespaces[0].Path)
	}
	end()
}

// No process can be made in the pid namespace of a container that is about to end.
func TestJoinFailsOfAnEndingContainer(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	n := testNamespaces(t)
	c := fakeContainer(a, "b")
	child, in := startChild(t, unix.CLONE_NEWPID)
	c.init.pid = child.Process.Pid
	shared := []*agentproto.SharedNamespace{{Type: "pid", ContainerId: "b"}}
	s, err := n.join(t.Context(), shared, asksFor(specs.PIDNamespace), a.table.get)
	if err != nil {
		t.Fatal(err)
	}
	other := errors.New("another reason")
	if err := s.explain(other); !errors.Is(err, other) {
		t.Errorf("while it lives: %v", err)
	}
	if err := s.explain(nil); err != nil {
		t.Errorf("no error: %v", err)
	}
	_ = in.Close()
	// WNOWAIT leaves it a zombie, so the agent has not seen its end yet.
	if err := unix.Waitid(unix.P_PID, child.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.explain(unix.ENOMEM); !errors.Is(err, errNotRunning) || err.Error() != "cannot join the pid namespace of container b: container not running" {
		t.Errorf("a zombie: %v", err)
	}
	if err := s.explain(nil); err != nil {
		t.Errorf("no error, of a zombie: %v", err)
	}
	s.finish(nil)
	if _, err := n.join(t.Context(), shared, asksFor(specs.PIDNamespace), a.table.get); !errors.Is(err, errNotRunning) {
		t.Errorf("joined a zombie: %v", err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

func TestJoinOfAnotherContainer(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	n := testNamespaces(t)
	pid, end := childIn(t, unix.CLONE_NEWPID|unix.CLONE_NEWIPC)
	c := fakeContainer(a, "b")
	c.init.pid = pid
	shared := []*agentproto.SharedNamespace{{Type: "pid", ContainerId: "b"}, {Type: "ipc", ContainerId: "b"}}
	spec := asksFor(specs.IPCNamespace, specs.PIDNamespace, specs.UTSNamespace)
	want := []uint64{inode(t, fmt.Sprintf("/proc/%d/ns/ipc", pid)), inode(t, fmt.Sprintf("/proc/%d/ns/pid", pid))}
	s, err := n.join(t.Context(), shared, spec, a.table.get)
	if err != nil {
		t.Fatal(err)
	}
	end() // its pid may now be another's
	for i, ino := range want {
		if got := inode(t, spec.Namespaces[i].Path); got != ino {
			t.Errorf("%s namespace %d, not the container's %d", spec.Namespaces[i].Type, got, ino)
		}
	}
	if spec.Namespaces[2].Path != "" {
		t.Error("joins what it makes itself")
	}
	s.finish(nil)
	if _, err := os.Stat(spec.Namespaces[0].Path); err == nil {
		t.Error("the file is still open")
	}

	_, err = n.join(t.Context(), shared, asksFor(specs.PIDNamespace), a.table.get)
	if !errors.Is(err, errNotRunning) {
		t.Errorf("one that has just ended: %v", err)
	}
	c.init.pid = os.Getpid()
	close(c.init.exited)
	_, err = n.join(t.Context(), shared, asksFor(specs.PIDNamespace), a.table.get)
	if !errors.Is(err, errNotRunning) || err.Error() != "cannot join the pid namespace of container b: container not running" {
		t.Errorf("an ended one: %v", err)
	}
	shared[0].ContainerId = "x"
	_, err = n.join(t.Context(), shared, asksFor(specs.PIDNamespace), a.table.get)
	if !errors.Is(err, errNoContainer) || err.Error() != "cannot join the pid namespace of container x: container does not exist" {
		t.Errorf("an unknown one: %v", err)
	}
	if n.containers.Load() != 1 {
		t.Errorf("%d containers", n.containers.Load())
	}
}
