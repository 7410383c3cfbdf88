package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestMembersShareTheSandboxOfTheFirst(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	a := r.mustCreate(t, "a", memberOf(pause.Shim))
	b := r.mustCreate(t, "b", memberOf(pause.Shim))
	r.onlyLeft(t, "@pod", "a", "b", "pod")
	for _, c := range []*state.Container{pause, a, b} {
		r.wantHostPIDs(t, c.ID, strconv.Itoa(c.Shim.PID))
	}
	s, err := r.Store.LoadSandbox("pod")
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(s.Members)); !slices.Equal(got, []string{"a", "b", "pod"}) {
		t.Errorf("members %q", got)
	}
	for _, c := range []*state.Container{a, b} {
		if s.Members[c.ID].Shim != c.Shim {
			t.Errorf("the sandbox has another shim of %s: %v", c.ID, s.Members[c.ID])
		}
		below(t, c.Shim.PID, pause.Shim.PID)
	}
	if sameFile(t, nsOf(a, "pid"), nsOf(b, "pid")) {
		t.Error("two members have one pid namespace on the host")
	}
	for _, kind := range []string{"net", "ipc", "uts"} {
		if !sameFile(t, nsOf(a, kind), nsOf(pause, kind)) {
			t.Errorf("a member has a %s namespace of its own", kind)
		}
	}
	// The end of one member does not end the others.
	if err := errors.Join(r.Start(t.Context(), "a"), r.Kill(t.Context(), "a", unix.SIGKILL, false)); err != nil {
		t.Fatal(err)
	}
	end(t, a.Shim)
	if err := r.Delete(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	if !b.Shim.Alive() || !pause.Shim.Alive() {
		t.Error("another container has ended as well")
	}
	// A container that is created again has a new shim and a new share.
	again := r.mustCreate(t, "a", memberOf(pause.Shim))
	if again.Shim == a.Shim || again.Share == a.Share {
		t.Errorf("%+v is as the one before", again)
	}
	// With the first container the VM ends, and all that is in it.
	if err := r.Delete(t.Context(), "pod", true); err != nil {
		t.Fatal(err)
	}
	end(t, again.Shim)
	end(t, b.Shim)
	r.onlyLeft(t, "a", "b")
	for _, id := range []string{"a", "b"} {
		if err := r.Delete(t.Context(), id, false); err != nil {
			t.Errorf("delete %s: %v", id, err)
		}
	}
	r.onlyLeft(t)
}

// An engine may tell a pod's first container to end while its members have not.
func TestAPodsFirstContainerEndsAfterItsMembers(t *testing.T) {
	r := newRig(t)
	infra := r.mustCreate(t, "pod", nil)
	other := r.mustCreate(t, "other", annotated(nil, map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: nsOf(infra, "net")}))
	member := r.mustCreate(t, "a", memberOf(infra.Shim))
	for _, id := range []string{"pod", "other", "a"} {
		if err := r.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Kill(t.Context(), "pod", unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if infra.Shim.AwaitEnd(ctx) == nil || !member.Shim.Alive() {
		t.Error("the first container has ended before its member")
	}
	if err := r.Kill(t.Context(), "a", unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	end(t, member.Shim)
	end(t, infra.Shim)
	end(t, other.Shim)
}

func nsOf(c *state.Container, kind string) string {
	return filepath.Join("/proc", strconv.Itoa(c.Shim.PID), "ns", kind)
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(x, y)
}

// below looks whether a process is the first of a pid namespace right below that of
// another, and a child of this one.
func below(t *testing.T, pid, holder int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case key == "NSpid" && (len(fields) < 3 || fields[len(fields)-1] != "1"):
			t.Errorf("the pids of %d are %q", pid, fields)
		case key == "PPid" && fields[0] != strconv.Itoa(os.Getpid()):
			t.Errorf("the parent of %d is %s", pid, fields[0])
		}
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/pid", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	parent, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(parent)
	if !sameFile(t, fmt.Sprintf("/proc/self/fd/%d", parent), fmt.Sprintf("/proc/%d/ns/pid", holder)) {
		t.Errorf("the pid namespace of %d is not below that of %d", pid, holder)
	}
}

// The member's shim ends with the VM, or before that loses the guest. Either way, create's
// error says how the VM ended.
func TestAMemberWhoseVMIsLostIsToldWhy(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	r.fail(t, "lose")
	err := r.create(t, "a", memberOf(pause.Shim))
	if !errors.Is(err, ErrSandboxStopped) || !strings.Contains(fmt.Sprint(err), "pod: the VM ended: exit status 0") {
		t.Errorf("got %v", err)
	}
	r.onlyLeft(t, "@pod", "pod")
}

func TestUpdateOfAMemberIsForTheVMOfAll(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	limit := int64(512 << 20)
	r.mustCreate(t, "a", func(s *specs.Spec) {
		memberOf(pause.Shim)(s)
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	})
	if err := r.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	more := int64(768 << 20)
	change := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &more}}
	if err := r.Update(t.Context(), "a", change); err != nil {
		t.Fatal(err)
	}
	boot := 256 + r.Config.OverheadMiB
	want := []state.VMSize{{MemoryMiB: boot + 256}, {MemoryMiB: boot + 512}}
	if got := r.sizes(t); !slices.Equal(got, want) {
		t.Errorf("the VM was given %v, not %v", got, want)
	}
	if got, want := r.awaited(t), []string{"256", "512"}; !slices.Equal(got, want) {
		t.Errorf("the guest was waited for to take %v MiB, not %v", got, want)
	}
	// An update that the VM refuses changes nothing.
	r.fail(t, "resize")
	much := int64(1024 << 20)
	if err := r.Update(t.Context(), "a", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &much}}); err == nil {
		t.Error("updated")
	}
	// Nor does one that the guest refuses.
	r.fail(t, "update")
	less := int64(640 << 20)
	if err := r.Update(t.Context(), "a", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &less}}); err == nil {
		t.Error("updated")
	}
	r.fail(t, "")
	s, err := r.Store.LoadSandbox("pod")
	if err != nil || s.Now.MemoryMiB != boot+512 || *s.Members["a"].Resources.Memory.Limit != more {
		t.Errorf("sandbox %+v, %v", s, err)
	}
	if c := r.mustLoad(t, "a"); *c.Resources.Memory.Limit != more {
		t.Errorf("container %+v", c.Resources.Memory)
	}
	// The VM gives back what the deleted member had.
	if err := r.Delete(t.Context(), "a", true); err != nil {
		t.Fatal(err)
	}
	if sizes := r.sizes(t); sizes[len(sizes)-1].MemoryMiB != boot {
		t.Errorf("the VM was given %v", sizes)
	}
}
