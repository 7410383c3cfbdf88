package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"runch/namespace"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func sandboxOf(pod string) func(*specs.Spec) {
	return annotated(map[string]string{"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": pod}, nil)
}

// memberOf is containerd's member of the pod "pod", whose first container has this shim.
func memberOf(first state.Process) func(*specs.Spec) {
	ns := func(kind string) string { return filepath.Join("/proc", strconv.Itoa(first.PID), "ns", kind) }
	return annotated(
		map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod"},
		map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: ns("net"), specs.IPCNamespace: ns("ipc"), specs.UTSNamespace: ns("uts")},
	)
}

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
	// The end of one is no other's.
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
	// Created again, it is another one.
	again := r.mustCreate(t, "a", memberOf(pause.Shim))
	if again.Shim == a.Shim || again.Share == a.Share {
		t.Errorf("%+v is as the one before", again)
	}
	// With the first the VM ends, and all that is in it.
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

// Its shim ends with the VM, or loses the guest first: who made it is told of the VM.
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

func TestAPodWithoutAContainerOfItsOwn(t *testing.T) {
	r := newRig(t)
	netns := newNetNS(t)
	member := annotated(
		map[string]string{"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod"},
		map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: netns},
	)
	r.fail(t, "boot")
	if err := r.create(t, "a", member); err == nil {
		t.Error("created in a VM that did not boot")
	}
	r.onlyLeft(t)
	r.fail(t, "create")
	if err := r.create(t, "a", member); err == nil {
		t.Error("created")
	}
	r.onlyLeft(t) // the VM of a pod without members
	r.fail(t, "")
	a := r.mustCreate(t, "a", member)
	b := r.mustCreate(t, "b", member)
	s, err := r.Store.LoadSandbox("pod")
	if err != nil || s.Owner != "" || s.Holder == a.Shim || len(s.Members) != 2 {
		t.Fatalf("sandbox %+v, %v", s, err)
	}
	if want := r.group() + "/pod"; s.Cgroup.Path != want {
		t.Errorf("the holder's cgroup is %s, not %s", s.Cgroup.Path, want)
	}
	if err := r.Delete(t.Context(), "a", true); err != nil {
		t.Fatal(err)
	}
	if !b.Shim.Alive() || !s.Holder.Alive() {
		t.Error("the pod has ended with one of its members")
	}
	// Where the VM is lost, what was in it is stopped, and the next member has another VM.
	if err := unix.Kill(s.Holder.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	end(t, b.Shim)
	r.mustCreate(t, "c", member)
	if err := r.Delete(t.Context(), "b", false); err != nil {
		t.Error(err)
	}
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Error(err)
	}
	r.onlyLeft(t)
}

// The caller says nothing at a pod's end: it ends its members and removes the namespaces
// that it has made for them, and deletes the members later.
func TestAPodEndsWithItsMembersAndItsNamespaces(t *testing.T) {
	for name, ends := range map[string]func(t *testing.T, netns string, members ...state.Process){
		"members first": func(t *testing.T, netns string, members ...state.Process) {
			t.Helper()
			kill(t, members...)
			unpin(t, netns)
		},
		"namespaces first": func(t *testing.T, netns string, members ...state.Process) {
			t.Helper()
			unpin(t, netns)
			kill(t, members...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			netns := newNetNS(t)
			member := annotated(
				map[string]string{"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod"},
				map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: netns},
			)
			// A pod goes on between its members.
			init := r.mustCreate(t, "init", member)
			kill(t, init.Shim)
			a, b := r.mustCreate(t, "a", member), r.mustCreate(t, "b", member)
			s, err := r.Store.LoadSandbox("pod")
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Members) != 3 {
				t.Errorf("the pod has had another VM: its members are %v", s.Members)
			}
			ends(t, netns, a.Shim, b.Shim)
			end(t, s.Holder)
			for _, id := range []string{"init", "a", "b"} {
				if err := r.Delete(t.Context(), id, false); err != nil {
					t.Error(err)
				}
			}
			r.onlyLeft(t)
		})
	}
}

// CRI-O writes the spec of the sandbox container that it does not make: the VM has
// the size of the pod in it, and the pod's namespaces its sysctls.
func TestAPodWhoseContainerIsNotMade(t *testing.T) {
	r := newRig(t)
	pod := filepath.Join(r.dir, "..", "pod", "userdata") // beside the bundles' parents
	if err := os.MkdirAll(pod, 0o750); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(&specs.Spec{
		Annotations: map[string]string{
			"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.SandboxID": "pod", "spoofed.crio.io": "true",
			"pod-linux-resources.crio.io": `{"cpu_period":100000,"cpu_quota":250000,"memory_limit_in_bytes":805306368}`,
			"pod-linux-overhead.crio.io":  `{"memory_limit_in_bytes":536870912}`,
		},
		Linux: &specs.Linux{Sysctl: map[string]string{"net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pod, oci.ConfigName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	netns := newNetNS(t)
	member := func(s *specs.Spec) {
		annotated(
			map[string]string{"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod"},
			map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: netns},
		)(s)
		s.Linux.Sysctl = map[string]string{"net.core.somaxconn": "78"}
	}
	r.fail(t, "create")
	if err := r.create(t, "init", member); err == nil {
		t.Fatal("created")
	}
	r.fail(t, "")
	r.mustCreate(t, "init", member)
	r.mustCreate(t, "a", member)
	s, err := r.Store.LoadSandbox("pod")
	if err != nil {
		t.Fatal(err)
	}
	if want := (state.VMSize{CPUs: 3, MemoryMiB: 768 + 256}); s.Boot != want {
		t.Errorf("the VM was made with %v, not %v", s.Boot, want)
	}
	for id, want := range map[string]map[string]string{
		"init": {"net.core.somaxconn": "78", "kernel.shm_rmid_forced": "1"},
		"a":    {"net.core.somaxconn": "78"},
	} {
		if got := r.guestSpec(t, id).Linux.Sysctl; !maps.Equal(got, want) {
			t.Errorf("sysctls of %s: %v, want %v", id, got, want)
		}
	}
}

// newNetNS pins a network namespace as CRI-O does: a file that belongs to no process.
func newNetNS(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	namespace.Do(func() bool {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		return false // the thread ends in the namespace, which the mount keeps
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(path); err == nil {
			unpin(t, path)
		}
	})
	return path
}

// unpin removes what newNetNS has made, as CRI-O does when a pod is stopped.
func unpin(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path)); err != nil {
		t.Error(err)
	}
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
	// One that the VM refuses changes nothing either.
	r.fail(t, "resize")
	much := int64(1024 << 20)
	if err := r.Update(t.Context(), "a", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &much}}); err == nil {
		t.Error("updated")
	}
	// One that the guest refuses changes nothing.
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
	// What it has no longer, the VM gives back.
	if err := r.Delete(t.Context(), "a", true); err != nil {
		t.Fatal(err)
	}
	if sizes := r.sizes(t); sizes[len(sizes)-1].MemoryMiB != boot {
		t.Errorf("the VM was given %v", sizes)
	}
}
