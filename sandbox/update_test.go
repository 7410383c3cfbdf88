package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"runch/cgroup"
	"runch/state"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Whatever refuses a member's new limits: on the host, the sandbox's cgroup and the
// member's own have the old ones.
func TestAFailedUpdateOfAMemberLeavesTheHostsLimits(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	r.mustCreate(t, "limited", func(s *specs.Spec) {
		memberOf(pause.Shim)(s)
		s.Linux.Resources.Memory = memoryOf(512 << 20)
	})
	r.failedUpdates(t, "limited")
	r.mustCreate(t, "unlimited", memberOf(pause.Shim))
	r.failedUpdates(t, "unlimited")
}

// failedUpdates has an update of a member fail at each step, and checks that it has
// changed nothing.
func (r *rig) failedUpdates(t *testing.T, id string) {
	t.Helper()
	shares := uint64(512)
	for by, tt := range map[string]struct{ step, cpus, want string }{
		"the VM":         {step: "resize", want: "resize the VM"},
		"its memory":     {step: "memory", want: "the fake agent"},
		"its own cgroup": {cpus: "1023", want: "the host's cgroup"}, // no host of a test has as many
		"the guest":      {step: "update", want: "the fake agent"},
	} {
		before, limits := r.mustLoadSandbox(t, "pod"), r.limitsOnHost(t, id)
		r.fail(t, tt.step)
		err := r.Update(t.Context(), id, &specs.LinuxResources{
			Memory: memoryOf(768 << 20), CPU: &specs.LinuxCPU{Shares: &shares, Cpus: tt.cpus},
		})
		r.fail(t, "")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s is refused by %s: %v", id, by, err)
		}
		if diff := cmp.Diff(limits, r.limitsOnHost(t, id)); diff != "" {
			t.Errorf("%s is refused by %s: the limits (-before +after):\n%s", id, by, diff)
		}
		if diff := cmp.Diff(before, r.mustLoadSandbox(t, "pod")); diff != "" {
			t.Errorf("%s is refused by %s: the sandbox (-before +after):\n%s", id, by, diff)
		}
	}
}

// An update is refused before the VM grows if one of its cgroups cannot be opened.
func TestAnUpdateWithoutTheMembersCgroupChangesNothing(t *testing.T) {
	r := newRig(t)
	r.createLimited(t)
	before, path := r.sizes(t), r.mustLoad(t, "limited").Cgroup.Path
	setPath := func(path string) {
		t.Helper()
		if err := r.changeRecord("limited", func(c *state.Container) { c.Cgroup.Path = path }); err != nil {
			t.Fatal(err)
		}
	}
	setPath("/no\x00path")
	err := r.Update(t.Context(), "limited", &specs.LinuxResources{Memory: memoryOf(768 << 20)})
	setPath(path)
	if !errors.Is(err, cgroup.ErrPath) {
		t.Errorf("the update's error is %v", err)
	}
	if diff := cmp.Diff(before, r.sizes(t)); diff != "" {
		t.Errorf("the VM's sizes (-before +after):\n%s", diff)
	}
}

// A guest may have in use the memory that a failed update gave it. Until the guest has
// given it back, the host's limit stays: a lower one would be refused, or kill the VM.
func TestAFailedUpdateTakesMemoryBackBeforeTheLimit(t *testing.T) {
	r := newRig(t)
	r.createLimited(t)
	before := r.mustLoadSandbox(t, "pod")
	_, limit := r.memoryLimit(t)
	r.fail(t, "memory keep")
	end := r.beginUpdate(t)
	_, raised := r.memoryLimit(t)
	if raised == limit {
		t.Errorf("the host's limit is %s again while the guest has yet to give memory back", limit)
	}
	if err := end(); err == nil || !strings.Contains(err.Error(), "the fake agent") {
		t.Errorf("the update's error is %v", err)
	}
	if _, got := r.memoryLimit(t); got != raised {
		t.Errorf("the guest has kept its memory, and the host's limit is %s, not %s", got, raised)
	}
	if diff := cmp.Diff(before, r.mustLoadSandbox(t, "pod")); diff != "" {
		t.Errorf("the sandbox (-before +after):\n%s", diff)
	}
}

// A VM that stays as large as a failed update has made it keeps the limit of memory that
// it needs. The other limits are the old ones again.
func TestAFailedUpdateOfAVMThatDoesNotShrink(t *testing.T) {
	r := newRig(t)
	r.createLimited(t)
	want := r.limitsOnHost(t, "limited")
	r.fail(t, "slow-memory")
	end := r.beginUpdate(t)
	file, raised := r.memoryLimit(t)
	r.fail(t, "resize")
	if err := end(); err == nil || !strings.Contains(err.Error(), "resize the VM") {
		t.Errorf("the update's error is %v", err)
	}
	want[file] = raised
	if diff := cmp.Diff(want, r.limitsOnHost(t, "limited")); diff != "" {
		t.Errorf("the limits (-want +got):\n%s", diff)
	}
}

// When a member comes, the guest may still hold the memory of one that has gone. The limit
// for the present members is then not set, although it is higher than the one for the
// members before.
func TestALimitBelowWhatIsInUseIsNotSet(t *testing.T) {
	r := newRig(t)
	r.createLimited(t)
	s, err := r.lockSandbox(t.Context(), "pod")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, limit := r.memoryLimit(t)
	// Less than the holder's process has.
	s.record.OverheadMiB, s.record.Boot.MemoryMiB = 0, 0
	s.record.Overhead, s.record.Members = 0, map[string]state.Member{"m": {Resources: &specs.LinuxResources{Memory: memoryOf(1 << 20)}}}
	before := hostLimits(s.record)
	s.record.Members["m"] = state.Member{Resources: &specs.LinuxResources{Memory: memoryOf(2 << 20)}}
	if after := hostLimits(s.record); cgroup.TakesMemory(before, after) {
		t.Fatalf("%+v is less than %+v", after, before)
	}
	if err := s.raiseLimits(before); err != nil {
		t.Error(err)
	}
	if _, got := r.memoryLimit(t); got != limit {
		t.Errorf("the limit of memory is %s, not %s", got, limit)
	}
}

// createLimited makes a pod with a member, whose memory is limited.
func (r *rig) createLimited(t *testing.T) {
	t.Helper()
	limited := func(role func(*specs.Spec)) func(*specs.Spec) {
		return func(s *specs.Spec) {
			role(s)
			s.Linux.Resources.Memory = memoryOf(512 << 20)
		}
	}
	pause := r.mustCreate(t, "pod", limited(sandboxOf("pod")))
	r.mustCreate(t, "limited", limited(memberOf(pause.Shim)))
}

// beginUpdate begins an update of that member, and returns when its guest has been asked
// for what it is slow to do. end cancels the update, as its timeout would, and gives its
// error.
func (r *rig) beginUpdate(t *testing.T) (end func() error) {
	t.Helper()
	shares := uint64(512)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() {
		done <- r.Update(ctx, "limited", &specs.LinuxResources{
			Memory: memoryOf(768 << 20), CPU: &specs.LinuxCPU{Shares: &shares},
		})
	}()
	eventually(t, "the guest is asked", exists(filepath.Join(r.dir, askedFile)))
	return func() error {
		cancel()
		return <-done
	}
}

// memoryLimit is the limit of memory of that pod on the host, and the file that has it.
func (r *rig) memoryLimit(t *testing.T) (file, limit string) {
	t.Helper()
	for file, limit := range r.limitsOnHost(t, "pod") {
		if strings.HasPrefix(filepath.Base(file), "memory") {
			return file, limit
		}
	}
	t.Fatal("no limit of memory")
	return "", ""
}

func (r *rig) mustLoadSandbox(t *testing.T, id string) *state.Sandbox {
	t.Helper()
	s, err := r.Store.LoadSandbox(id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// limitsOnHost are those of memory and the weights of a container's cgroup and of that of
// its sandbox, by their files.
func (r *rig) limitsOnHost(t *testing.T, id string) map[string]string {
	t.Helper()
	c := r.mustLoad(t, id)
	limits := make(map[string]string)
	for _, group := range []state.Cgroup{c.Cgroup, r.mustLoadSandbox(t, c.Sandbox).Cgroup} {
		files := []string{filepath.Join(group.Paths[""], "memory.max"), filepath.Join(group.Paths[""], "cpu.weight")}
		if memory := group.Paths["memory"]; memory != "" { // cgroup v1
			files = []string{filepath.Join(memory, "memory.limit_in_bytes"), filepath.Join(group.Paths["cpu"], "cpu.shares")}
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			limits[file] = strings.TrimSpace(string(data))
		}
	}
	return limits
}
