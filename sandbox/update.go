package sandbox

import (
	"context"
	"encoding/json"
	"fmt"

	"runch/agentproto"
	"runch/cgroup"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes a container's resources: the limits of its cgroup in the guest
// are exact, those of the host's cgroup have the guest's overhead added. What
// change does not name stays as it is.
func (r *Runtime) Update(ctx context.Context, id string, change *specs.LinuxResources) error {
	dir, err := r.lock(ctx, id)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only the lock
	c, err := r.Store.Load(id)
	if err != nil {
		return err
	}
	switch c.Status() {
	case state.StatusStopped, state.StatusCreating:
		return state.ErrNotRunning
	}
	host, guest, err := oci.SplitUpdate(c.Resources, change)
	if err != nil {
		return err
	}
	data, err := json.Marshal(guest)
	if err != nil {
		return fmt.Errorf("encode the resources: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	group, err := cgroup.Open(c.Cgroup.Path, c.Cgroup.Systemd, c.Cgroup.Paths)
	if err != nil {
		return err
	}
	if err := group.Update(c.Resources, host, c.Overhead); err != nil {
		return err
	}
	err = r.call(ctx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		_, err := agent.Update(ctx, &agentproto.UpdateRequest{ContainerId: id, Resources: data})
		return err
	})
	if err != nil {
		// The guest has refused it, so the host's cgroup goes back as well.
		if undo := group.Update(host, c.Resources, c.Overhead); undo != nil {
			return fmt.Errorf("%w; and undoing it on the host: %w", err, undo)
		}
		return err
	}
	c.Resources = host
	return dir.Save(c)
}
