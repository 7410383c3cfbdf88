package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"runch/state"
)

// Delete removes a container that has stopped, or has only been created, and
// with force whatever there is of it. It never needs the guest.
func (r *Runtime) Delete(ctx context.Context, id string, force bool) error {
	if f := r.FallbackOf(ctx, id); f != nil {
		return r.deletePassedOn(ctx, f, id, force)
	}
	dir, err := r.lockToDelete(ctx, id, force)
	if errors.Is(err, state.ErrNotExist) && force {
		return r.deleteLeftovers(ctx, id, nil)
	}
	if err != nil {
		return err
	}
	c, err := dir.Load()
	switch {
	case err == nil:
	case errors.Is(err, state.ErrNotExist) && !force:
		return errors.Join(err, dir.Close())
	case force:
		return r.deleteLeftovers(ctx, id, dir)
	default:
		return errors.Join(err, dir.Close())
	}
	status := c.Status()
	if !force && status != state.StatusStopped && status != state.StatusCreated {
		return errors.Join(fmt.Errorf("cannot delete container %s %w: %s", id, ErrNotStopped, status), dir.Close())
	}
	return r.destroy(ctx, dir, c)
}

// lockPause is how long delete --force waits for a container's lock before it looks
// whether a create has named a shim meanwhile.
const lockPause = 50 * time.Millisecond

// lockToDelete takes the container's lock. A create under way holds it until its
// shim is gone, so with force that one is ended first, as soon as the record names
// it; without force that create is not disturbed.
func (r *Runtime) lockToDelete(ctx context.Context, id string, force bool) (*state.Dir, error) {
	if !force {
		if c, err := r.Store.Load(id); err != nil || c.Status() == state.StatusCreating {
			return r.refuseToDelete(id, err)
		}
		return r.lock(ctx, id)
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		short, stop := context.WithTimeout(ctx, lockPause)
		dir, err := r.Store.Lock(short, id)
		stop()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return dir, err
		}
		if c, err := r.Store.Load(id); err == nil && !c.Ready {
			if err := c.Shim.Kill(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// refuseToDelete says why a container is not deleted: it is being made, or its
// record cannot be read.
func (r *Runtime) refuseToDelete(id string, err error) (*state.Dir, error) {
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("cannot delete container %s %w: %s", id, ErrNotStopped, state.StatusCreating)
}

// destroy takes down what a container still has on the host, its shim first.
// Everything is tried; what is not there any more is no error. dir is closed. After
// an error the record stays, for another delete.
func (r *Runtime) destroy(ctx context.Context, dir *state.Dir, c *state.Container) error {
	defer dir.Close()
	killCtx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	if err := c.Shim.Kill(killCtx); err != nil {
		return err
	}
	if err := errors.Join(r.leaveSandbox(ctx, c), destroyCgroup(ctx, c.Cgroup)); err != nil {
		return err
	}
	if err := dir.Remove(); err != nil {
		return err
	}
	if c.Shim.PID != 0 {
		// Also of a create that failed: hooks that came before it may have made
		// what these remove. They have their own time.
		r.runPoststop(context.WithoutCancel(ctx), c)
	}
	return nil
}

// leaveSandbox takes a container, whose shim is gone, out of its sandbox.
func (r *Runtime) leaveSandbox(ctx context.Context, c *state.Container) error {
	s, err := r.lockSandbox(ctx, c.Sandbox)
	switch {
	case errors.Is(err, state.ErrNotExist):
		return r.removeUnrecorded(ctx, c.Sandbox)
	case err != nil && c.Sandbox == c.ID:
		return r.endUnreadable(ctx, c.ID)
	case err != nil:
		return err
	}
	if _, member := s.record.Members[c.ID]; !member && s.record.Owner != c.ID {
		// It was never admitted. If it was to be a pod's first member, nobody else ends
		// what its create has made for it.
		if isAbandoned(s.record) {
			return s.end(ctx)
		}
		return s.Close()
	}
	return s.leave(ctx, c)
}
