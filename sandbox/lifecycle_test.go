package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"runch/oci"
	"runch/state"

	"golang.org/x/sys/unix"
)

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
