package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"runch/agentproto"
	"runch/hooks"
	"runch/hypervisor"
	"runch/network"
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
	if c.Hooks == nil {
		return nil
	}
	if err := hooks.Run(ctx, "poststart", c.Hooks.Poststart, c.Bundle, hookState(c, specs.StateRunning)); err != nil {
		ctx, cancel := context.WithTimeout(ctx, goneTimeout)
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
	// A program may be over before the agent's answer is here. Its status is told
	// by the shim's end.
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
	ns := netNSOf(s.record)
	links, config, err := network.Scan(ctx, ns)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if slices.Contains(s.record.Network.Taps, network.TapName(link)) {
			continue
		}
		if err := s.plug(ctx, ns, link); err != nil {
			return nil, err
		}
	}
	r.serveNames(c, s)
	return config, nil
}

// plug mirrors one more link into a running VM.
func (s *lockedSandbox) plug(ctx context.Context, ns string, link network.Link) error {
	tap, err := network.Attach(ctx, ns, link)
	if err != nil {
		return err
	}
	defer tap.Close() // the VMM has its own copies
	s.record.Network.Taps = append(s.record.Network.Taps, tap.Name)
	if err := s.Save(s.record); err != nil {
		return err
	}
	return s.holder().AddNIC(hypervisor.NIC{ID: tap.Name, MAC: tap.MAC, MTU: tap.MTU, Tap: tap.Files})
}
