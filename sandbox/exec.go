package sandbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"runch/cgroup"
	"runch/namespace"
	"runch/oci"
	"runch/shimproto"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExecOptions are what exec is asked for.
type ExecOptions struct {
	ID      string
	Process *specs.Process
	// PIDFile is written last, empty for none.
	PIDFile       string
	ConsoleSocket string
	// Cgroup is a sub-cgroup of the container's in the guest, empty for its own.
	Cgroup       string
	Detach       bool
	IgnorePaused bool
	// Stdin, Stdout and Stderr become the process's, where it has no terminal.
	Stdin, Stdout, Stderr *os.File
}

// CheckExec gives the state of a container that can take one more process: one that
// has been created and has not stopped, and is not paused unless ignorePaused. The
// error is ErrExecStopped or ErrExecPaused for one that cannot.
func (r *Runtime) CheckExec(id string, ignorePaused bool) (*State, error) {
	c, err := r.loadForExec(id, ignorePaused)
	if err != nil {
		return nil, err
	}
	return stateOf(c), nil
}

func (r *Runtime) loadForExec(id string, ignorePaused bool) (*state.Container, error) {
	c, err := r.Store.Load(id)
	if err != nil {
		return nil, err
	}
	switch c.Status() {
	case state.StatusStopped, state.StatusCreating:
		return nil, ErrExecStopped
	case state.StatusPaused:
		if !ignorePaused {
			return nil, ErrExecPaused
		}
	}
	return c, nil
}

// Exec makes one more process in a container. Unless it is to be detached,
// Exec waits for its end and gives its exit code.
func (r *Runtime) Exec(ctx context.Context, o ExecOptions) (int, error) {
	c, err := r.loadForExec(o.ID, o.IgnorePaused)
	if err != nil {
		return 0, err
	}
	r.warnOf(o.Process)
	setup, err := r.execSetup(c, o)
	if err != nil {
		return 0, err
	}
	f, err := newForeground(o.Detach, o.ConsoleSocket, setup.Terminal)
	if err != nil {
		return 0, err
	}
	defer f.close()
	setup.Terminal = f.terminal
	making, stop := f.catch(ctx, o.Detach)
	defer stop()
	p, err := r.startExecShim(making, c, o, setup, f.console)
	if err != nil {
		return 0, endedMeanwhile(ctx, c, err)
	}
	if o.Detach {
		return 0, nil
	}
	return f.wait(p)
}

// endedMeanwhile says why an exec failed: ErrExecStopped if the container ended while the
// exec was made, else err. The exec may fail a moment before the container's shim has
// ended.
func endedMeanwhile(ctx context.Context, c *state.Container, err error) error {
	if !hasEnded(ctx, c.Shim, err) {
		return err
	}
	return fmt.Errorf("%w: it ended meanwhile", ErrExecStopped)
}

// warnOf tells, with runc's text, of capabilities that a process asks for and
// cannot be given.
func (r *Runtime) warnOf(p *specs.Process) {
	if unknown := oci.UnknownCapabilities(p); len(unknown) > 0 {
		r.Log.Warn(fmt.Sprint("ignoring unknown or unavailable capabilities: ", unknown))
	}
}

// setupTimeout bounds the making of a process. It grows with the boot's timeout: a guest
// that boots slowly also starts programs slowly, above all ten at once.
func setupTimeout(boot time.Duration) time.Duration { return boot + callTimeout }

func (r *Runtime) execSetup(c *state.Container, o ExecOptions) (*shimproto.Setup, error) {
	limits, err := inheritedRlimits()
	if err != nil {
		return nil, err
	}
	process, err := json.Marshal(oci.WithRlimits(oci.GuestProcess(o.Process), limits))
	if err != nil {
		return nil, fmt.Errorf("encode the process: %w", err)
	}
	s, err := r.Store.LoadSandbox(c.Sandbox)
	if err != nil {
		return nil, err
	}
	return &shimproto.Setup{
		ID: c.ID, Timeout: setupTimeout(cmp.Or(s.BootTimeout, r.Config.BootTimeout)), Terminal: terminalOf(o.Process),
		Exec: &shimproto.Exec{
			ID: rand.Text(), Process: process, Guest: s.Endpoint, ShimPID: c.Shim.PID,
			Cgroup: o.Cgroup, IgnorePaused: o.IgnorePaused,
		},
	}, nil
}

// startExecShim starts the shim in the container's pid namespace: when the
// container's shim ends, for whatever reason, the kernel ends this one.
func (r *Runtime) startExecShim(ctx context.Context, c *state.Container, o ExecOptions, setup *shimproto.Setup, console *os.File) (*shimProcess, error) {
	s := shimSpec{
		unshare: unix.CLONE_NEWNS, console: console, title: o.Process.Args,
		join: []namespace.Namespace{
			{Kind: unix.CLONE_NEWNET, Path: nsPath(c.Shim.PID, "net")},
			pidNSOf(c.Shim.PID),
		},
	}
	if setup.Terminal == nil {
		s.stdio = [3]*os.File{o.Stdin, o.Stdout, o.Stderr}
	}
	p, err := spawn(s)
	if err != nil {
		return nil, err
	}
	err = func() error {
		// Without a cgroup of its own, the container's shim is in its caller's, which this
		// user may not be allowed to change.
		if c.Cgroup.Path != "" {
			if err := cgroup.Join(c.Shim.PID, p.pid()); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, setup.Timeout)
		defer cancel()
		if err := p.send(ctx, setup); err != nil {
			return err
		}
		if _, err := p.await(ctx); err != nil {
			return err
		}
		return handOver(p, o.PIDFile)
	}()
	if err != nil {
		p.undo()
		return nil, err
	}
	return p, nil
}
