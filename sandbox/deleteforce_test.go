package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// forceWithin is how long a forced delete may take here: far less than the timeouts of
// what it must not wait for.
const forceWithin = 20 * time.Second

func (r *rig) deleteByForce(t *testing.T, id string) {
	t.Helper()
	began := time.Now()
	if err := r.Delete(t.Context(), id, true); err != nil {
		t.Errorf("delete --force %s: %v", id, err)
	}
	if took := time.Since(began); took > forceWithin {
		t.Errorf("delete --force %s took %v", id, took)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); !is(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func exists(path string) func() bool {
	return func() bool {
		_, err := os.Stat(path)
		return err == nil
	}
}

func TestDeleteForceDoesNotWaitForPoststartHooks(t *testing.T) {
	r := newRig(t)
	begun := filepath.Join(r.dir, "begun")
	c := r.mustCreate(t, "c", func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{Poststart: []specs.Hook{shell("touch " + begun + "; exec sleep 120")}}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- r.Start(ctx, "c") }()
	eventually(t, "the hook runs", exists(begun))
	if status := r.mustLoad(t, "c").Status(); status != state.StatusRunning {
		t.Errorf("while its hook runs, the container is %s", status)
	}
	r.deleteByForce(t, "c")
	if c.Shim.Alive() {
		t.Error("what was deleted lives")
	}
	r.onlyLeft(t)
	cancel()
	if err := <-started; err == nil {
		t.Error("a start whose hook was ended succeeded")
	}
}

// Whatever verb has the lock gives it up once the shim is gone. So delete kills the shim,
// and waits for the lock.
func TestDeleteForceKillsWhileTheLockIsHeld(t *testing.T) {
	r := newRig(t)
	c := r.mustCreate(t, "c", nil)
	held, err := r.Store.Lock(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	given := make(chan error)
	go func() { given <- r.Delete(ctx, "c", true) }()
	eventually(t, "the container is dead", func() bool { return !c.Shim.Alive() })
	<-time.After(20 * killPause) // time enough to begin twenty more waits
	// Each wait for the lock has the directory open, and a thread.
	if waits := openFiles(t, held.Path()) - 1; waits > 1 {
		t.Errorf("%d waits for one lock", waits)
	}
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("delete --force under another's lock: %v", err)
	}
	deleted := make(chan struct{})
	go func() {
		defer close(deleted)
		r.deleteByForce(t, "c")
	}()
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	<-deleted
	r.onlyLeft(t)
}

// The VM of a member does not end with it, and may keep what an update takes from it.
func TestDeleteForceEndsAnUpdateOfAMember(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	limit, less := int64(768<<20), int64(512<<20)
	r.mustCreate(t, "a", func(s *specs.Spec) {
		memberOf(pause.Shim)(s)
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	})
	r.fail(t, "keep")
	updated := make(chan error, 1)
	go func() {
		updated <- r.Update(t.Context(), "a", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &less}})
	}()
	eventually(t, "the guest is asked for memory", exists(filepath.Join(r.dir, askedFile)))
	r.deleteByForce(t, "a")
	r.onlyLeft(t, "@pod", "pod")
	if err := <-updated; err != nil {
		t.Errorf("the update, which did what it could: %v", err)
	}
	if !pause.Shim.Alive() {
		t.Error("the VM has ended")
	}
}

// openFiles counts this process's descriptors of a path.
func openFiles(t *testing.T, path string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if at, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && at == path {
			n++
		}
	}
	return n
}

// TestDeleteForceAtAnyPointOfACreate runs delete --force at later and later points of a
// create: then either nothing is left, or what the create made after the delete is whole.
func TestDeleteForceAtAnyPointOfACreate(t *testing.T) {
	r := newRig(t)
	o := CreateOptions{ID: "c", Bundle: r.bundle(t, "c", nil), PIDFile: filepath.Join(r.dir, "c.pid")}
	began := time.Now()
	r.mustCreate(t, "c", nil)
	took := time.Since(began)
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Fatal(err)
	}
	const points = 24
	for i := range points {
		_ = os.Remove(o.PIDFile) // where there is one
		created := make(chan error, 1)
		go func() { created <- r.Create(t.Context(), o) }()
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
		if err == nil && shimIn(t, o.PIDFile).Alive() {
			t.Errorf("point %d: what was created and deleted lives", i)
		}
		r.onlyLeft(t)
	}
}

// shimIn is the process that a pid-file names, a child of this one that was not reaped.
func shimIn(t *testing.T, pidFile string) state.Process {
	t.Helper()
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := state.ProcessOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
