package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"runch/oci"
	"runch/state"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// undoRig is a rig for the container "c", which is alone or a member of the pod "pod".
type undoRig struct {
	*rig
	member bool
	change func(*specs.Spec)
	// left is what is in the state directory without the container.
	left []string
}

func newUndoRig(t *testing.T, member bool) *undoRig {
	t.Helper()
	r := &undoRig{rig: newRig(t), member: member, change: func(*specs.Spec) {}}
	if member {
		r.change, r.left = memberOf(r.mustCreate(t, "pod", sandboxOf("pod")).Shim), []string{"@pod", "pod"}
	}
	return r
}

// sandboxes are the records of all sandboxes.
func (r *undoRig) sandboxes(t *testing.T) []*state.Sandbox {
	t.Helper()
	all, err := r.Store.Sandboxes()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// asBefore checks that do fails with an error that contains want, and that it leaves the
// sandboxes as they were.
func (r *undoRig) asBefore(t *testing.T, name, want string, do func() error) {
	t.Helper()
	before := r.sandboxes(t)
	if err := do(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, not %q", name, err, want)
	}
	if diff := cmp.Diff(before, r.sandboxes(t)); diff != "" {
		t.Errorf("%s: the sandboxes (-before +after):\n%s", name, diff)
	}
	for _, s := range before {
		if !s.Running() {
			t.Errorf("%s: the sandbox %s has ended", name, s.ID)
		}
	}
}

func eachPlace(t *testing.T, test func(*testing.T, *undoRig)) {
	t.Helper()
	for name, member := range map[string]bool{"alone": false, "member": true} {
		t.Run(name, func(t *testing.T) { test(t, newUndoRig(t, member)) })
	}
}

// failingHook is a hook that fails.
func failingHook() []specs.Hook { return []specs.Hook{shell("exit 3")} }

func TestEachStepOfAFailedCreateIsUndone(t *testing.T) {
	eachPlace(t, func(t *testing.T, r *undoRig) {
		for name, tt := range map[string]struct {
			step      string
			hooks     *specs.Hooks
			pidFile   string
			calledOff bool
			members   bool
			want      string
		}{
			"resize":          {step: "resize", members: true, want: "resize the VM"},
			"memory":          {step: "memory", members: true, want: "the fake agent fails"},
			"createRuntime":   {hooks: &specs.Hooks{CreateRuntime: failingHook()}, want: "error running createRuntime hook #0: "},
			"createContainer": {hooks: &specs.Hooks{CreateContainer: failingHook()}, want: "error running createContainer hook #0: "},
			"create":          {step: "create", want: "fails as it is to"},
			"pid-file":        {pidFile: "no/such/directory/pid", want: "write the pid-file"},
			"called off":      {calledOff: true, want: context.Canceled.Error()},
		} {
			if tt.members && !r.member {
				continue
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.calledOff {
				cancel()
			}
			o := CreateOptions{ID: "c", Bundle: r.bundle(t, "c", func(s *specs.Spec) {
				r.change(s)
				s.Hooks = tt.hooks
				s.Linux.Resources.Memory = memoryOf(512 << 20)
			})}
			if tt.pidFile != "" {
				o.PIDFile = filepath.Join(r.dir, tt.pidFile)
			}
			r.fail(t, tt.step)
			r.asBefore(t, name, tt.want, func() error { return r.Create(ctx, o) })
			r.fail(t, "")
			r.onlyLeft(t, r.left...)
		}
		r.mustCreate(t, "c", r.change)
	})
}

// A verb that fails leaves the container as it was: the same can be done again.
func TestAFailedVerbLeavesTheContainerAsItWas(t *testing.T) {
	eachPlace(t, func(t *testing.T, r *undoRig) {
		c := r.mustCreate(t, "c", r.change)
		for _, tt := range []struct {
			step, status string
			do           func() error
		}{
			{"start", state.StatusCreated, func() error { return r.Start(t.Context(), "c") }},
			{"interfaces", state.StatusRunning, func() error {
				_, err := r.Interfaces(t.Context(), "c")
				return err
			}},
			{"signal", state.StatusRunning, func() error { return r.Kill(t.Context(), "c", unix.SIGTERM, false) }},
		} {
			r.fail(t, tt.step)
			r.asBefore(t, tt.step, "fails as it is to", tt.do)
			r.fail(t, "")
			if got := r.mustLoad(t, "c").Status(); got != tt.status {
				t.Errorf("%s: the container is %s", tt.step, got)
			}
			if err := tt.do(); err != nil {
				t.Errorf("%s, again: %v", tt.step, err)
			}
		}
		end(t, c.Shim)
		if err := r.Delete(t.Context(), "c", false); err != nil {
			t.Error(err)
		}
		r.onlyLeft(t, r.left...)
	})
}

func TestAFailedExecLeavesTheContainerAsItWas(t *testing.T) {
	eachPlace(t, func(t *testing.T, r *undoRig) {
		c := r.mustCreate(t, "c", r.change)
		shim := strconv.Itoa(c.Shim.PID)
		process := oci.DefaultSpec().Process
		process.Terminal = false
		exec := func(pidFile string) error {
			_, err := r.Exec(t.Context(), ExecOptions{ID: "c", Process: process, Detach: true, PIDFile: pidFile})
			return err
		}
		pidFile := filepath.Join(r.dir, "exec.pid")
		r.fail(t, "exec")
		r.asBefore(t, "exec", "fails as it is to", func() error { return exec(pidFile) })
		r.fail(t, "")
		if _, err := os.Stat(pidFile); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is a pid-file, %v", err)
		}
		r.asBefore(t, "pid-file", "write the pid-file", func() error { return exec(filepath.Join(r.dir, "no/such/directory/pid")) })
		r.wantHostPIDs(t, "c", shim)
		if err := exec(pidFile); err != nil {
			t.Fatal(err)
		}
		pid, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		r.wantHostPIDs(t, "c", shim, string(pid))
	})
}
