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

// fail makes steps of the fake guests fail, "" none.
func (r *rig) fail(t *testing.T, steps string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, failFile), []byte(steps), 0o600); err != nil {
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

// awaited reads what the fake guests have noted there.
func (r *rig) awaited(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, awaitedFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

// group is the parent of the test's cgroups.
func (r *rig) group() string { return "/runch-unit-" + strconv.Itoa(os.Getpid()) }

// readBundle makes one for a container, whose spec change may change.
func (r *rig) readBundle(t *testing.T, id string, change func(*specs.Spec)) *oci.Bundle {
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
	b, err := oci.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bundle makes one that is fit to run in a VM.
func (r *rig) bundle(t *testing.T, id string, change func(*specs.Spec)) *oci.Bundle {
	t.Helper()
	b := r.readBundle(t, id, change)
	if err := b.Check(); err != nil {
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

// end waits for the end of a process that is no more than a zombie then.
func end(t *testing.T, p state.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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
	exec, err := os.ReadFile(filepath.Join(r.dir, "exec.pid"))
	if err != nil {
		t.Fatal(err)
	}
	// virtiofsd is in the same pid namespace, and is none of the container's.
	r.wantHostPIDs(t, "c", strconv.Itoa(c.Shim.PID), string(exec))
	if err := r.Delete(t.Context(), "c", false); !errors.Is(err, ErrNotStopped) {
		t.Errorf("delete of a running container: %v", err)
	}
	if err := r.Kill(t.Context(), "c", unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	end(t, c.Shim)
	r.wantHostPIDs(t, "c")
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

// wantHostPIDs looks whether a container's processes are these on the host.
func (r *rig) wantHostPIDs(t *testing.T, id string, want ...string) {
	t.Helper()
	pids, err := r.HostPIDs(id)
	if err != nil {
		t.Error(err)
	}
	var got []string
	for _, pid := range pids {
		got = append(got, strconv.Itoa(pid))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s has the pids %q, not %q", id, got, want)
	}
}

func TestAFailedCreateLeavesNothing(t *testing.T) {
	r := newRig(t)
	for step, ofVM := range map[string]bool{"new": true, "boot": true, "configure": true, "create": false} {
		r.fail(t, step)
		err := r.create(t, "c", nil)
		if err == nil || !strings.Contains(err.Error(), "fails as it is to") {
			t.Errorf("%s: %v", step, err)
		}
		// What the guest refuses is not the VM's doing.
		if err != nil && strings.Contains(err.Error(), "the console's log is") != ofVM {
			t.Errorf("%s: %v", step, err)
		}
		r.onlyLeft(t)
		if _, err := os.Stat(filepath.Join(r.dir, "c.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: there is a pid-file, %v", step, err)
		}
	}
	r.fail(t, "hello")
	if err := r.create(t, "c", nil); err == nil || !strings.Contains(err.Error(), "read hello") || !strings.Contains(err.Error(), "the console's log is") {
		t.Errorf("a guest that says nothing: %v", err)
	}
	r.onlyLeft(t)
}

// guestSpec is what the guest was last given for a container.
func (r *rig) guestSpec(t *testing.T, id string) *specs.Spec {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, "guest-"+id))
	if err != nil {
		t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		t.Fatal(err)
	}
	return &spec
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

// podman says the same of its members whether the pod has an infra container or not.
func TestMembersOfPodman(t *testing.T) {
	r := newRig(t)
	member := func(join *state.Container) func(*specs.Spec) {
		paths := make(map[specs.LinuxNamespaceType]string)
		if join != nil {
			paths[specs.NetworkNamespace] = nsOf(join, "net")
		}
		return annotated(map[string]string{
			"io.container.manager":              "libpod",
			"io.kubernetes.cri-o.ContainerType": "container",
			"io.kubernetes.cri-o.SandboxID":     "pod",
		}, paths)
	}
	a := r.mustCreate(t, "a", member(nil))
	b := r.mustCreate(t, "b", member(nil))
	c := r.mustCreate(t, "c", member(a))
	r.onlyLeft(t, "@a", "@b", "a", "b", "c")
	if sameFile(t, nsOf(a, "net"), nsOf(b, "net")) {
		t.Error("two containers of a pod that shares nothing have one network")
	}
	if c.Sandbox != "a" {
		t.Errorf("a container that joins another's network is in the sandbox %s", c.Sandbox)
	}
	infra := r.mustCreate(t, "pod", nil)
	if d := r.mustCreate(t, "d", member(infra)); d.Sandbox != "pod" {
		t.Errorf("a member of a pod with an infra container is in the sandbox %s", d.Sandbox)
	}
	if s, err := r.Store.LoadSandbox("b"); err != nil || s.Pod {
		t.Errorf("a container that is alone is a pod's: %+v, %v", s, err)
	}
	if err := r.create(t, "e", member(nil)); err == nil || !strings.Contains(err.Error(), "a network namespace of its own") {
		t.Errorf("a member of that pod with another network: %v", err)
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
