package sandbox

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// outcome is what Run, or Exec, gives.
type outcome struct {
	code int
	err  error
}

// inBackground calls Run or Exec, which a signal to this process is to reach. The test
// catches the signals as well, so that it lives on if Run or Exec does not catch one.
func inBackground(t *testing.T, do func() (int, error)) <-chan outcome {
	t.Helper()
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT)
	t.Cleanup(func() { signal.Reset(unix.SIGTERM, unix.SIGINT) })
	done := make(chan outcome, 1)
	go func() {
		code, err := do()
		done <- outcome{code, err}
	}()
	return done
}

func interrupt(t *testing.T, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(os.Getpid(), sig); err != nil {
		t.Fatal(err)
	}
}

func (o outcome) want(t *testing.T, code int, err error) {
	t.Helper()
	if o.code != code || !errors.Is(o.err, err) {
		t.Errorf("got %d, %v; want %d, %v", o.code, o.err, code, err)
	}
}

// within waits for the outcome. If the signal has had no effect after a minute, it kills
// the containers to get one.
func (r *rig) within(t *testing.T, done <-chan outcome) outcome {
	t.Helper()
	select {
	case o := <-done:
		return o
	case <-time.After(time.Minute):
		t.Error("the signal has had no effect")
		r.nothingIsLeft(t)
		return <-done
	}
}

func TestRunIsCancelledWhileTheVMBoots(t *testing.T) {
	for _, detach := range []bool{false, true} {
		r := newRig(t)
		// The fake VM's boot waits for a reader of the pipe, which never comes.
		if err := unix.Mkfifo(filepath.Join(r.dir, bootPipe), 0o600); err != nil {
			t.Fatal(err)
		}
		o := RunOptions{CreateOptions: CreateOptions{ID: "c", Bundle: r.bundle(t, "c", nil)}, Detach: detach}
		done := inBackground(t, func() (int, error) { return r.Run(t.Context(), o) })
		var shim state.Process
		eventually(t, "the shim is known", func() bool {
			c, err := r.Store.Load("c")
			if err == nil {
				shim = c.Shim
			}
			return shim.Alive()
		})
		interrupt(t, unix.SIGINT)
		r.within(t, done).want(t, 0, context.Canceled)
		r.onlyLeft(t)
		if shim.Alive() {
			t.Error("the shim lives")
		}
	}
}

// poststart gives a container a hook that says that it runs, and waits to be told to end.
func (r *rig) poststart(t *testing.T) (change func(*specs.Spec), begun, goOn string) {
	t.Helper()
	begun, goOn = filepath.Join(r.dir, "begun"), filepath.Join(r.dir, "go-on")
	if err := unix.Mkfifo(goOn, 0o600); err != nil {
		t.Fatal(err)
	}
	hook, seconds := shell("touch "+begun+"; read x <"+goOn), 90
	hook.Timeout = &seconds
	return func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststart: []specs.Hook{hook}} }, begun, goOn
}

func TestRunPassesASignalOnThatCameDuringTheStart(t *testing.T) {
	r := newRig(t)
	change, begun, goOn := r.poststart(t)
	o := RunOptions{CreateOptions: CreateOptions{ID: "c", Bundle: r.bundle(t, "c", change)}}
	done := inBackground(t, func() (int, error) { return r.Run(t.Context(), o) })
	eventually(t, "the hook runs", exists(begun))
	interrupt(t, unix.SIGTERM)
	if err := os.WriteFile(goOn, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.within(t, done).want(t, 128+int(unix.SIGTERM), nil)
	r.onlyLeft(t)
}

// The signal cancels the run, because nobody would pass it on later.
func TestDetachedRunIsCancelledDuringTheStart(t *testing.T) {
	r := newRig(t)
	change, begun, _ := r.poststart(t)
	o := RunOptions{CreateOptions: CreateOptions{ID: "c", Bundle: r.bundle(t, "c", change)}, Detach: true}
	done := inBackground(t, func() (int, error) { return r.Run(t.Context(), o) })
	eventually(t, "the hook runs", exists(begun))
	interrupt(t, unix.SIGTERM)
	if o := r.within(t, done); o.err == nil {
		t.Error("a run that was cancelled succeeded")
	}
	r.onlyLeft(t)
}

func TestExecIsCancelledWhileItIsMade(t *testing.T) {
	r := newRig(t)
	c := r.mustCreate(t, "c", nil)
	r.fail(t, "slow-exec")
	process := oci.DefaultSpec().Process
	process.Terminal = false
	for _, detach := range []bool{false, true} {
		done := inBackground(t, func() (int, error) {
			return r.Exec(t.Context(), ExecOptions{ID: "c", Process: process, Detach: detach})
		})
		asked := filepath.Join(r.dir, askedFile)
		eventually(t, "the guest is asked for it", exists(asked))
		interrupt(t, unix.SIGTERM)
		r.within(t, done).want(t, 0, context.Canceled)
		if pids, err := r.HostPIDs("c"); err != nil || len(pids) != 1 || pids[0] != c.Shim.PID {
			t.Errorf("of the container there is %v, %v", pids, err)
		}
		if err := os.Remove(asked); err != nil {
			t.Fatal(err)
		}
	}
}

// A signal that comes once the process is made is for the process.
func TestExecPassesSignalsOn(t *testing.T) {
	r := newRig(t)
	r.mustCreate(t, "c", nil)
	process := oci.DefaultSpec().Process
	process.Terminal = false
	pidFile := filepath.Join(r.dir, "exec.pid")
	done := inBackground(t, func() (int, error) {
		return r.Exec(t.Context(), ExecOptions{ID: "c", Process: process, PIDFile: pidFile})
	})
	// The pid-file comes before the commit. A signal may come at any point after it.
	eventually(t, "there is a process", exists(pidFile))
	interrupt(t, unix.SIGTERM)
	r.within(t, done).want(t, 128+int(unix.SIGTERM), nil)
}
