package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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

// awaited reads what the fake guests have noted in awaitedFile.
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

// readBundle makes a bundle for a container. If change is not nil, it changes the spec.
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

// bundle makes a bundle, as readBundle does, that is fit to run in a VM.
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

// changeRecord changes a container's record.
func (r *rig) changeRecord(id string, change func(*state.Container)) error {
	dir, c, err := r.lockAndLoad(context.Background(), id) // t.Context() has ended in a cleanup
	if err != nil {
		return err
	}
	change(c)
	return errors.Join(dir.Save(c), dir.Close())
}

// nothingIsLeft deletes all containers by force, and checks that nothing else is left.
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

// end waits for the end of a process. It may be a zombie then.
func end(t *testing.T, p state.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.AwaitEnd(ctx); err != nil {
		t.Errorf("process %d still runs: %v", p.PID, err)
	}
}

// kill kills processes. With the init of a pid namespace, the kernel kills all that is in it.
func kill(t *testing.T, processes ...state.Process) {
	t.Helper()
	for _, p := range processes {
		if err := unix.Kill(p.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		end(t, p)
	}
}
