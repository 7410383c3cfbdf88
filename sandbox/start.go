package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"runch/agentproto"
	"runch/hooks"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Start lets a created container's process run and returns once it does.
func (r *Runtime) Start(ctx context.Context, id string) error {
	dir, c, err := r.lockAndLoad(ctx, id)
	if err != nil {
		return err
	}
	defer dir.Close()
	switch c.Status() {
	case state.StatusStopped:
		return ErrStartStopped
	case state.StatusCreated:
	default:
		return ErrStartRunning
	}
	if err := r.startInGuest(ctx, c); err != nil {
		return err
	}
	c.Started = true
	if err := dir.Save(c); err != nil {
		return err
	}
	// Release the lock: the hooks may take minutes, and change nothing in the record.
	if err := dir.Close(); err != nil {
		return err
	}
	if c.Hooks == nil {
		return nil
	}
	if err := hooks.Run(ctx, "poststart", c.Hooks.Poststart, c.Bundle, hookState(c, specs.StateRunning)); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goneTimeout)
		defer cancel()
		return errors.Join(err, c.Shim.Kill(ctx))
	}
	return nil
}

// startInGuest has the agent let the process run.
func (r *Runtime) startInGuest(ctx context.Context, c *state.Container) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout+c.StartHooks)
	defer cancel()
	config, err := r.rescan(ctx, c)
	if err != nil {
		return fmt.Errorf("mirror the network: %w", err)
	}
	err = r.call(ctx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		_, err := agent.StartContainer(ctx, &agentproto.StartContainerRequest{ContainerId: c.ID, Network: config})
		return err
	})
	// A short program may end, and its VM with it, before the agent's answer arrives.
	// The shim's exit status says how it ended.
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

// rescan looks at the network namespace once more: some callers fill it
// between create and start. What is new is added to the running VM.
func (r *Runtime) rescan(ctx context.Context, c *state.Container) (*agentproto.Network, error) {
	s, err := r.lockSandbox(ctx, c.Sandbox)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	w, err := s.scanNetwork(ctx, func(_, tap string) bool { return !slices.Contains(s.record.Network.Removed, tap) })
	if err != nil {
		return nil, err
	}
	if _, err := s.rewire(ctx, w); err != nil {
		return nil, err
	}
	r.serveNames(c, s)
	return w.config, nil
}
