package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"runch/config"
	"runch/namespace"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rig is a runtime whose VMs are fakes, with a bundle for its containers.
type rig struct {
	*Runtime
	dir string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Hypervisor, cfg.Accel, cfg.QEMU, cfg.Virtiofsd = "qemu", "tcg", "/proc/self/exe", "/proc/self/exe"
	cfg.Kernel, cfg.Initramfs = filepath.Join(dir, "kernel"), filepath.Join(dir, "initramfs")
	cfg.LogDir, cfg.BootTimeout = filepath.Join(dir, "logs"), 20*time.Second
	cfg.MemoryMiB, cfg.CPUs, cfg.MaxCPUs, cfg.MaxMemoryMiB = 256, 1, 4, 4096
	for _, name := range []string{cfg.Kernel, cfg.Initramfs} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &rig{dir: dir}
	r.Runtime = &Runtime{
		Store: state.NewStore(filepath.Join(dir, "root")), Config: cfg, Log: slog.New(slog.DiscardHandler),
	}
	t.Cleanup(func() { r.nothingIsLeft(t) })
	return r
}

// fail makes a step of the fake guests fail, "" none.
func (r *rig) fail(t *testing.T, step string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, failFile), []byte(step), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sizes are those that VMs were given.
func (r *rig) sizes(t *testing.T) []state.VMSize {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, sizesFile))
	if err != nil {
		t.Fatal(err)
	}
	var sizes []state.VMSize
	for line := range strings.Lines(string(data)) {
		var size state.VMSize
		if _, err := fmt.Sscan(line, &size.CPUs, &size.MemoryMiB); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, size)
	}
	return sizes
}

// group is the parent of the test's cgroups.
func (r *rig) group() string { return "/runch-unit-" + strconv.Itoa(os.Getpid()) }

// bundle makes one for a container, whose spec change may change.
func (r *rig) bundle(t *testing.T, id string, change func(*specs.Spec)) *oci.Bundle {
	t.Helper()
	dir := filepath.Join(r.dir, "bundle-"+id)
	for _, d := range []string{"rootfs/proc", "rootfs/dev", "rootfs/sys"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	spec := oci.DefaultSpec()
	spec.Process.Terminal = false
	spec.Linux.CgroupsPath = r.group() + "/" + id
	if change != nil {
		change(spec)
	}
	data, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, oci.ConfigName), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := oci.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *rig) create(t *testing.T, id string, change func(*specs.Spec)) error {
	t.Helper()
	return r.Create(t.Context(), CreateOptions{ID: id, Bundle: r.bundle(t, id, change), PIDFile: filepath.Join(r.dir, id+".pid")})
}

func (r *rig) mustCreate(t *testing.T, id string, change func(*specs.Spec)) *state.Container {
	t.Helper()
	if err := r.create(t, id, change); err != nil {
		t.Fatalf("create %s: %v", id, err)
	}
	return r.mustLoad(t, id)
}

func (r *rig) mustLoad(t *testing.T, id string) *state.Container {
	t.Helper()
	c, err := r.Store.Load(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nothingIsLeft deletes what there is by force, and looks whether that was all.
func (r *rig) nothingIsLeft(t *testing.T) {
	t.Helper()
	ids, err := r.Store.IDs()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, id := range ids {
		if err := r.Delete(context.Background(), id, true); err != nil {
			t.Errorf("delete %s: %v", id, err)
		}
	}
	r.onlyLeft(t)
	groups, err := filepath.Glob("/sys/fs/cgroup/*" + r.group() + "/*/cgroup.procs")
	if err != nil || len(groups) > 0 {
		t.Errorf("cgroups are left: %q, %v", groups, err)
	}
	parents, _ := filepath.Glob("/sys/fs/cgroup/*" + r.group())
	for _, dir := range append(parents, "/sys/fs/cgroup"+r.group()) {
		_ = unix.Rmdir(dir)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), r.dir) {
		t.Errorf("a mount is left, %v", err)
	}
}

// onlyLeft looks whether the state directory has these and nothing else.
func (r *rig) onlyLeft(t *testing.T, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(r.Store.Root())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		t.Errorf("in the state directory are %q, not %q", got, names)
	}
}

// annotated gives a spec annotations and namespaces to join.
func annotated(annotations map[string]string, join map[specs.LinuxNamespaceType]string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Annotations = maps.Clone(annotations)
		for i := range s.Linux.Namespaces {
			if path, ok := join[s.Linux.Namespaces[i].Type]; ok {
				s.Linux.Namespaces[i].Path = path
			}
		}
	}
}

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

// end waits for the end of a process that is no more than a zombie then.
func end(t *testing.T, p state.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.AwaitEnd(ctx); err != nil {
		t.Errorf("process %d still runs: %v", p.PID, err)
	}
}

func TestALoneContainersLife(t *testing.T) {
	r := newRig(t)
	c := r.mustCreate(t, "c", nil)
	r.onlyLeft(t, "@c", "c")
	if c.Status() != state.StatusCreated {
		t.Errorf("created: %s", c.Status())
	}
	s, err := r.Store.LoadSandbox("c")
	if err != nil || s.Owner != "c" || s.Holder != c.Shim || !s.Running() {
		t.Errorf("sandbox %+v, %v", s, err)
	}
	if pid, err := os.ReadFile(filepath.Join(r.dir, "c.pid")); err != nil || string(pid) != strconv.Itoa(c.Shim.PID) {
		t.Errorf("pid-file %q, %v", pid, err)
	}
	if err := r.Start(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), "c"); !errors.Is(err, ErrStartRunning) {
		t.Errorf("a second start: %v", err)
	}
	if err := r.create(t, "c", nil); !errors.Is(err, state.ErrExist) {
		t.Errorf("a second container of that id: %v", err)
	}
	if _, err := r.Exec(t.Context(), ExecOptions{ID: "c", Process: oci.DefaultSpec().Process, Detach: true}); err == nil {
		t.Error("an exec with a terminal and no console socket")
	}
	process := oci.DefaultSpec().Process
	process.Terminal = false
	if _, err := r.Exec(t.Context(), ExecOptions{ID: "c", Process: process, Detach: true, PIDFile: filepath.Join(r.dir, "exec.pid")}); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "c", false); !errors.Is(err, ErrNotStopped) {
		t.Errorf("delete of a running container: %v", err)
	}
	if err := r.Kill(t.Context(), "c", unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	end(t, c.Shim)
	if err := r.Delete(t.Context(), "c", false); err != nil {
		t.Fatal(err)
	}
	r.onlyLeft(t)
	if err := r.Delete(t.Context(), "c", false); !errors.Is(err, state.ErrNotExist) {
		t.Errorf("delete of what is not there: %v", err)
	}
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Errorf("delete --force of what is not there: %v", err)
	}
}

func TestAFailedCreateLeavesNothing(t *testing.T) {
	r := newRig(t)
	for _, step := range []string{"new", "boot", "configure", "create"} {
		r.fail(t, step)
		err := r.create(t, "c", nil)
		if err == nil || !strings.Contains(err.Error(), "fails as it is to") {
			t.Errorf("%s: %v", step, err)
		}
		r.onlyLeft(t)
		if _, err := os.Stat(filepath.Join(r.dir, "c.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: there is a pid-file, %v", step, err)
		}
	}
	r.fail(t, "hello")
	r.Config.BootTimeout = 100 * time.Millisecond
	if err := r.create(t, "c", nil); err == nil || !strings.Contains(err.Error(), "read hello") {
		t.Errorf("a guest that says nothing: %v", err)
	}
	r.onlyLeft(t)
}

// A hook between two steps fails, or what is to come after the guest's part does.
func TestAFailedCreateUndoesEachStep(t *testing.T) {
	r := newRig(t)
	for name, change := range map[string]func(*specs.Spec){
		"createRuntime":   func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{shell("exit 3")}} },
		"createContainer": func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{shell("exit 3")}} },
	} {
		err := r.create(t, "c", change)
		if err == nil || !strings.Contains(err.Error(), "error running "+name+" hook #0: ") {
			t.Errorf("%s: %v", name, err)
		}
		r.onlyLeft(t)
	}
	o := CreateOptions{ID: "c", Bundle: r.bundle(t, "c", nil), PIDFile: filepath.Join(r.dir, "no/such/directory/pid")}
	if err := r.Create(t.Context(), o); err == nil || !strings.Contains(err.Error(), "write the pid-file") {
		t.Errorf("a pid-file that cannot be written: %v", err)
	}
	r.onlyLeft(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Create(ctx, CreateOptions{ID: "c", Bundle: r.bundle(t, "c", nil)}); !errors.Is(err, context.Canceled) {
		t.Errorf("a create that was called off: %v", err)
	}
	r.onlyLeft(t)
}

func TestMembersShareTheSandboxOfTheFirst(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	a := r.mustCreate(t, "a", memberOf(pause.Shim))
	b := r.mustCreate(t, "b", memberOf(pause.Shim))
	r.onlyLeft(t, "@pod", "a", "b", "pod")
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

func TestAFailedMemberLeavesThePodAsItWas(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	r.fail(t, "create")
	if err := r.create(t, "a", memberOf(pause.Shim)); err == nil {
		t.Error("created")
	}
	r.fail(t, "")
	s, err := r.Store.LoadSandbox("pod")
	if err != nil || len(s.Members) != 1 || !s.Running() {
		t.Errorf("sandbox %+v, %v", s, err)
	}
	r.onlyLeft(t, "@pod", "pod")
	r.mustCreate(t, "a", memberOf(pause.Shim))
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

// kill ends processes, and the first of a pid namespace all that is in it.
func kill(t *testing.T, processes ...state.Process) {
	t.Helper()
	for _, p := range processes {
		if err := unix.Kill(p.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		end(t, p)
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
	limit := int64(256 << 20)
	r.mustCreate(t, "a", func(s *specs.Spec) {
		memberOf(pause.Shim)(s)
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	})
	if err := r.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	more := int64(512 << 20)
	change := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &more}}
	if err := r.Update(t.Context(), "a", change); err != nil {
		t.Fatal(err)
	}
	boot := 256 + r.Config.OverheadMiB
	want := []state.VMSize{{MemoryMiB: boot + 256}, {MemoryMiB: boot + 512}}
	if got := r.sizes(t); !slices.Equal(got, want) {
		t.Errorf("the VM was given %v, not %v", got, want)
	}
	// One that the VM refuses changes nothing either.
	r.fail(t, "resize")
	much := int64(1024 << 20)
	if err := r.Update(t.Context(), "a", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &much}}); err == nil {
		t.Error("updated")
	}
	// One that the guest refuses changes nothing.
	r.fail(t, "update")
	less := int64(384 << 20)
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

// TestDeleteForceAtAnyPointOfACreate asks for it while a create is under way, later
// and later: then either nothing is left, or what it made after that is whole.
func TestDeleteForceAtAnyPointOfACreate(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle(t, "c", nil)
	began := time.Now()
	r.mustCreate(t, "c", nil)
	took := time.Since(began)
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Fatal(err)
	}
	const points = 24
	for i := range points {
		created := make(chan error, 1)
		go func() { created <- r.Create(t.Context(), CreateOptions{ID: "c", Bundle: bundle}) }()
		select {
		case err := <-created:
			created <- err
		case <-time.After(took * time.Duration(i) / points):
		}
		if err := r.Delete(t.Context(), "c", true); err != nil {
			t.Errorf("point %d: delete: %v", i, err)
		}
		err := <-created
		c, loadErr := r.Store.Load("c")
		switch {
		case err != nil && !errors.Is(loadErr, state.ErrNotExist):
			t.Errorf("point %d: create failed (%v) and there is a container: %v", i, err, loadErr)
		case err == nil && loadErr == nil && !c.Shim.Alive():
			t.Errorf("point %d: what was created is dead", i)
		}
		// A create that began after the delete has a container, with its VM.
		if loadErr == nil {
			if err := r.Delete(t.Context(), "c", true); err != nil {
				t.Errorf("point %d: delete what was created: %v", i, err)
			}
		}
		r.onlyLeft(t)
	}
}

func TestRefusedPlaces(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	other := r.mustCreate(t, "other", nil)
	member := memberOf(pause.Shim)
	for name, tt := range map[string]struct {
		change func(*specs.Spec)
		want   string
	}{
		"a network of its own": {func(s *specs.Spec) {
			member(s)
			setPath(s, specs.NetworkNamespace, "")
		}, "a network namespace of its own"},
		"another sandbox's network": {func(s *specs.Spec) {
			member(s)
			setPath(s, specs.NetworkNamespace, nsOf(other, "net"))
		}, "the sandbox pod has another"},
		"another sandbox's ipc": {func(s *specs.Spec) {
			member(s)
			setPath(s, specs.IPCNamespace, nsOf(other, "ipc"))
		}, "cannot join the ipc namespace " + nsOf(other, "ipc")},
		"the ipc of a process that is no container's": {func(s *specs.Spec) {
			member(s)
			setPath(s, specs.IPCNamespace, fmt.Sprintf("/proc/%d/ns/ipc", os.Getpid()))
		}, "cannot join the ipc namespace /proc/"},
		"namespaces of two sandboxes": {func(s *specs.Spec) {
			setPath(s, specs.NetworkNamespace, nsOf(other, "net"))
			setPath(s, specs.IPCNamespace, nsOf(pause, "ipc"))
		}, "namespaces of different sandboxes"},
		"a sandbox in another": {func(s *specs.Spec) {
			sandboxOf("c")(s)
			setPath(s, specs.NetworkNamespace, nsOf(other, "net"))
		}, "the first container of a pod cannot join"},
	} {
		err := r.create(t, "c", tt.change)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.onlyLeft(t, "@other", "@pod", "other", "pod")
}

func setPath(s *specs.Spec, kind specs.LinuxNamespaceType, path string) {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == kind {
			s.Linux.Namespaces[i].Path = path
		}
	}
}
