package sandbox

import (
	"context"
	"time"

	"runch/agentproto"
	"runch/state"
)

// Pause freezes the container's processes.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	return r.setPaused(ctx, id, true, func(ctx context.Context, agent agentproto.AgentService) error {
		_, err := agent.Pause(ctx, &agentproto.PauseRequest{ContainerId: id})
		return err
	})
}

// Resume thaws the container's processes, and sets the guest's clock by the host's.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	return r.setPaused(ctx, id, false, func(ctx context.Context, agent agentproto.AgentService) error {
		_, err := agent.Resume(ctx, &agentproto.ResumeRequest{ContainerId: id, HostTimeNs: time.Now().UnixNano()})
		return err
	})
}

func (r *Runtime) setPaused(ctx context.Context, id string, paused bool, do func(context.Context, agentproto.AgentService) error) error {
	dir, c, err := r.lockAndLoad(ctx, id)
	if err != nil {
		return err
	}
	defer dir.Close()
	switch status := c.Status(); {
	case !paused && status != state.StatusPaused:
		return state.ErrNotPaused
	case paused && status != state.StatusRunning && status != state.StatusCreated:
		return state.ErrNotRunning
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := r.call(ctx, c, do); err != nil {
		return err
	}
	c.Paused = paused
	return dir.Save(c)
}
