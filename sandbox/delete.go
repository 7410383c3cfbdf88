package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"runch/state"
)

// Delete removes a container that has stopped, or has only been created. With force it
// removes one in any state, and also what a killed create has left. The error wraps
// ErrNotStopped if the container's state does not allow it. Delete never needs the guest.
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

// lockToDelete takes the container's lock. With force, it makes the command that has the
// lock end, by killing the container. Without force, it refuses while a create is under way.
func (r *Runtime) lockToDelete(ctx context.Context, id string, force bool) (*state.Dir, error) {
	if force {
		return r.lockByForce(ctx, id)
	}
	if c, err := r.Store.Load(id); err != nil || c.Status() == state.StatusCreating {
		return r.refuseToDelete(id, err)
	}
	return r.lock(ctx, id)
}

// lockByForce takes the container's lock, and where another verb has it, kills the
// container first: a verb whose shim is gone has nothing more to do and gives the lock up.
func (r *Runtime) lockByForce(ctx context.Context, id string) (*state.Dir, error) {
	dir, err := r.Store.TryLock(id)
	if !errors.Is(err, state.ErrLocked) {
		return dir, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	waiting, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	killing, stop := context.WithCancel(ctx)
	var killer sync.WaitGroup
	killer.Go(func() {
		if err := r.killUntil(killing, id); err != nil {
			giveUp(err)
		}
	})
	dir, err = r.Store.Lock(waiting, id)
	stop()
	killer.Wait() // it must not kill what is created once this lock is released
	return dir, err
}

// killPause is how long delete --force waits before it looks again for a shim to kill.
const killPause = 50 * time.Millisecond

// killUntil kills the shim that the container's record names, again and again until ctx
// ends: a create under way may have no shim yet, and no event tells when it has one.
func (r *Runtime) killUntil(ctx context.Context, id string) error {
	again := time.NewTicker(killPause)
	defer again.Stop()
	for {
		if c, err := r.Store.Load(id); err == nil {
			killCtx, cancel := context.WithTimeout(ctx, goneTimeout)
			err := c.Shim.Kill(killCtx)
			cancel()
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
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

// destroy removes what a container still has on the host: first it kills the shim. What
// is gone already is no error. dir is closed. After an error the record stays, for another
// delete.
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
		// Also after a create that failed: its earlier hooks may have made what these
		// remove. Hooks have their own timeouts.
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
		// the sandbox that its create has made.
		if isAbandoned(s.record) {
			return s.end(ctx)
		}
		return s.Close()
	}
	return s.leave(ctx, c)
}
