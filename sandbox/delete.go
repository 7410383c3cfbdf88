package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"runch/cgroup"
	"runch/network"
	"runch/state"

	"golang.org/x/sys/unix"
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
	s, err := r.Store.LoadSandbox(id)
	if err == nil && s.Shim.Alive() {
		if err := killRemains(ctx, s.Shim); err != nil {
			return err
		}
	}
	dir, lockErr := r.lock(ctx, id)
	if errors.Is(lockErr, state.ErrNotExist) {
		return nil
	}
	if lockErr != nil {
		return lockErr
	}
	if err != nil && !errors.Is(err, state.ErrNotExist) {
		if err := killListeners(ctx, dir.Path()); err != nil {
			return errors.Join(err, dir.Close())
		}
	}
	return errors.Join(dir.Remove(), dir.Close())
}

// killListeners ends the shim of a sandbox whose records name none: it is who
// listens on the sockets in the sandbox's directory.
func killListeners(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for the sandbox's sockets: %w", err)
	}
	for _, e := range entries {
		if e.Type() != fs.ModeSocket {
			continue
		}
		pid, err := listenerOf(filepath.Join(dir, e.Name()))
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // nobody listens any more
		}
		if err != nil {
			return err
		}
		shim, err := state.ProcessOf(pid)
		if err != nil {
			return fmt.Errorf("identify the shim: %w", err)
		}
		if err := killRemains(ctx, shim); err != nil {
			return err
		}
	}
	return nil
}

// listenerOf gives the pid of the process that listens on a unix socket.
func listenerOf(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return 0, fmt.Errorf("connect to %s: %w", path, err)
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, fmt.Errorf("ask who listens on %s: %w", path, err)
	}
	return int(cred.Pid), nil
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
	defer dir.Close()
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
	if c != nil {
		r.tellLost(dir.Path(), c)
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
