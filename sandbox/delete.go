package sandbox

import (
	"context"
	"errors"
	"fmt"

	"runch/cgroup"
	"runch/network"
	"runch/state"
)

// Delete removes a container that has stopped, or has only been created, and
// with force whatever there is of it. It never needs the guest.
func (r *Runtime) Delete(ctx context.Context, id string, force bool) error {
	c, err := r.Store.Load(id)
	switch {
	case errors.Is(err, state.ErrNotExist) && force:
		return r.deleteRemains(ctx, id)
	case err != nil && !force:
		return err
	case err != nil:
		// A record that cannot be read names no shim, but the sandbox's does.
		return r.deleteRemains(ctx, id)
	}
	status := c.Status()
	if !force && status != state.StatusStopped && status != state.StatusCreated {
		return fmt.Errorf("cannot delete container %s %w: %s", id, ErrNotStopped, status)
	}
	goneCtx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	// Before the lock: a create under way holds it until its shim is gone.
	if err := kill9(goneCtx, c.Shim); err != nil {
		return err
	}
	dir, err := r.lock(ctx, id)
	if errors.Is(err, state.ErrNotExist) {
		return nil // somebody else has deleted it meanwhile
	}
	if err != nil {
		return err
	}
	return r.destroy(ctx, dir, c)
}

// deleteRemains removes what a create that was killed early has left, and a
// container whose own record cannot be read.
func (r *Runtime) deleteRemains(ctx context.Context, id string) error {
	if s, err := r.Store.LoadSandbox(id); err == nil && s.Shim.Alive() {
		if err := killRemains(ctx, s.Shim); err != nil {
			return err
		}
	}
	dir, err := r.lock(ctx, id)
	if errors.Is(err, state.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(dir.Remove(), dir.Close())
}

// killRemains ends a shim, and so its VM, and removes the cgroup that it is in.
func killRemains(ctx context.Context, shim state.Process) error {
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	group, err := cgroup.RemainsOf(shim.PID)
	if err != nil {
		return err
	}
	if err := kill9(ctx, shim); err != nil {
		return err
	}
	return group.Destroy(ctx)
}

// destroy takes down what a container without processes still has on the host.
// Everything is tried; what is gone already is well gone. dir is closed.
func (r *Runtime) destroy(ctx context.Context, dir *state.Dir, c *state.Container) error {
	defer dir.Close() //nolint:errcheck // removed by then
	var errs []error
	if c != nil {
		if c.Network.NetNS != "" {
			errs = append(errs, network.Detach(ctx, c.Network.NetNS, c.Network.Taps))
		}
		if c.Cgroup.Path != "" {
			errs = append(errs, destroyCgroup(ctx, c.Cgroup))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // the record stays, for another delete
	}
	if err := dir.Remove(); err != nil {
		return err
	}
	if c != nil && c.Shim.PID != 0 {
		// Also of a create that failed: hooks that came before it may have made
		// what these remove. They have their own time.
		r.runPoststop(context.WithoutCancel(ctx), c)
	}
	return nil
}

func destroyCgroup(ctx context.Context, c state.Cgroup) error {
	group, err := cgroup.Open(c.Path, c.Systemd, c.Paths)
	if err != nil {
		return err
	}
	return group.Destroy(ctx)
}
