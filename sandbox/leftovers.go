package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"runch/cgroup"
	"runch/state"
	"runch/unixsocket"

	"golang.org/x/sys/unix"
)

// removeUnrecorded removes a sandbox's directory if it has no record: its create was
// killed before there was anything else.
func (r *Runtime) removeUnrecorded(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	dir, err := r.Store.LockSandbox(ctx, id)
	if errors.Is(err, state.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := dir.Load(); !errors.Is(err, state.ErrNotExist) {
		return dir.Close()
	}
	return dir.Remove()
}

// deleteLeftovers removes what a create that was killed early has left, and a
// container whose own record cannot be read: the sandboxes know their members. id may
// also be that of a pod without a container of its own, whose sandbox has no members
// any more. dir is the container's, nil where it has none; it is closed.
func (r *Runtime) deleteLeftovers(ctx context.Context, id string, dir *state.Dir) error {
	sandboxes, err := r.Store.Sandboxes()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if dir == nil {
		// A create saves the container's record before its sandbox knows of it: with a
		// record, what was found belongs to a container that was created meanwhile.
		if _, err := r.Store.Load(id); !errors.Is(err, state.ErrNotExist) {
			return nil
		}
	}
	err = r.leaveSandboxes(ctx, id, sandboxes, err)
	if dir == nil {
		return err
	}
	if err != nil {
		return errors.Join(err, dir.Close())
	}
	return dir.Remove()
}

// leaveSandboxes takes a container out of the sandboxes that name it as a member or as
// their owner, and ends the sandbox of that id if no container is left in it. unread is
// the error of records that cannot be read: one of them may be that of the container's
// own sandbox.
func (r *Runtime) leaveSandboxes(ctx context.Context, id string, sandboxes []*state.Sandbox, unread error) error {
	if unread != nil {
		if err := r.endUnreadable(ctx, id); err != nil {
			return err
		}
	}
	for _, s := range sandboxes {
		m, member := s.Members[id]
		// Under the sandbox's lock, leaveSandbox sees whether it is only being made.
		left := s.ID == id && isAbandoned(s)
		if !member && s.Owner != id && !left {
			continue
		}
		if m.Shim.Alive() {
			if err := killLeftover(ctx, m.Shim); err != nil {
				return err
			}
		}
		if err := r.leaveSandbox(ctx, &state.Container{ID: id, Sandbox: s.ID, Share: m.Share}); err != nil {
			return err
		}
	}
	return nil
}

// endUnreadable ends the sandbox of this id if its record cannot be read, and so names no
// holder. The holder is the process that listens on the sockets in the sandbox's directory.
func (r *Runtime) endUnreadable(ctx context.Context, id string) error {
	lockCtx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	dir, err := r.Store.LockSandbox(lockCtx, id)
	if errors.Is(err, state.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := dir.Load(); err == nil || errors.Is(err, state.ErrNotExist) {
		return dir.Close()
	}
	if err := killListeners(ctx, dir.Path()); err != nil {
		return errors.Join(err, dir.Close())
	}
	return dir.Remove()
}

// killListeners ends the process that listens on the sockets in a directory.
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
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EPROTOTYPE) {
			continue // nobody listens any more, or the socket has another type
		}
		if err != nil {
			return err
		}
		holder, err := state.ProcessOf(pid)
		if err != nil {
			return fmt.Errorf("identify the holder: %w", err)
		}
		if err := killLeftover(ctx, holder); err != nil {
			return err
		}
	}
	return nil
}

// listenerOf gives the pid of the process that listens on a unix socket.
func listenerOf(path string) (int, error) {
	conn, err := unixsocket.Dial(path)
	if err != nil {
		return 0, fmt.Errorf("connect to %s: %w", path, err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask who listens on %s: %w", path, err)
	}
	var cred *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, optErr); err != nil {
		return 0, fmt.Errorf("ask who listens on %s: %w", path, err)
	}
	return int(cred.Pid), nil
}

// killLeftover ends a shim, and what it holds, and removes the cgroup that it is in.
func killLeftover(ctx context.Context, shim state.Process) error {
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	group, err := cgroup.LeftoverOf(shim.PID)
	if err != nil {
		return err
	}
	if err := shim.Kill(ctx); err != nil {
		return err
	}
	return group.Destroy(ctx)
}
