package sandbox

import (
	"context"
	"errors"
	"fmt"

	"runch/agentproto"
	"runch/state"

	"golang.org/x/sys/unix"
)

// Kill delivers a signal to the container's init, or with all to every process
// of it, and does nothing else: it does not wait for an effect. SIGKILL that
// the guest does not take in time ends the shim, and the VM where that holds it.
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
		// As with kill(2), whose process may have ended before anybody looks.
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
