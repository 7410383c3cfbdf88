package sandbox

import (
	"context"
	"errors"
	"fmt"

	"runch/agentproto"
	"runch/shimproto"
	"runch/state"

	"golang.org/x/sys/unix"
)

// Kill sends a signal to the container's init, or with all to every process of the
// container, and does not wait for its effect. If the guest does not take SIGKILL in time,
// Kill kills the shim, and with it the VM if the shim holds that. SIGTERM to a pod's first
// container is held back while members live. The error wraps state.ErrNotRunning if the
// container has no process; with all, that a container has stopped is no error.
func (r *Runtime) Kill(ctx context.Context, id string, sig unix.Signal, all bool) error {
	c, err := r.Store.Load(id)
	if err != nil {
		return err
	}
	switch c.Status() {
	case state.StatusStopped:
		if all {
			return nil
		}
		return state.ErrNotRunning
	case state.StatusCreating:
		return fmt.Errorf("%w: it is being created", state.ErrNotRunning)
	}
	if sig == unix.SIGTERM && !all && r.terminateAfterMembers(c) {
		return nil
	}
	timeout := callTimeout
	if sig == unix.SIGKILL {
		timeout = killTimeout
	}
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = r.call(callCtx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		_, err := agent.Signal(ctx, &agentproto.SignalRequest{ContainerId: id, Signal: uint32(sig), All: all}) // #nosec G115 -- a signal's number
		return err
	})
	switch {
	case err == nil, errors.Is(err, errEnded):
		// As with kill(2), the signal may have ended the process already.
		return nil
	case c.Status() == state.StatusStopped, errors.Is(err, agentproto.ErrNotFound), errors.Is(err, agentproto.ErrState):
		if all {
			return nil
		}
		return state.ErrNotRunning
	case sig == unix.SIGKILL && errors.Is(err, agentproto.ErrUnreachable):
		ctx, cancel := context.WithTimeout(ctx, goneTimeout)
		defer cancel()
		return c.Shim.Kill(ctx)
	default:
		return fmt.Errorf("signal the container: %w", err)
	}
}

// terminateAfterMembers tells whether the container is the first of a pod with live
// members: then the holder sends it SIGTERM when they have ended. Their VM ends with the
// first container, but an engine that stops all containers of a pod at once (podman before
// 5.5) means to give each its time. SIGKILL, which comes when that is over, is not held back.
func (r *Runtime) terminateAfterMembers(c *state.Container) bool {
	s, err := r.Store.LoadSandbox(c.Sandbox)
	if err != nil || s.Owner != c.ID || len(s.Members) < 2 {
		return false
	}
	dir, err := r.Store.SandboxDir(c.Sandbox)
	return err == nil && shimproto.Holder{Dir: dir}.Terminate() == nil
}
