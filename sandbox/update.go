package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"runch/agentproto"
	"runch/cgroup"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes a container's resources: the limits of its cgroup in the guest
// are exact, those of the host's cgroup have the overhead added, and the VM has
// the CPUs and the memory for them. What change does not name stays as it is.
func (r *Runtime) Update(ctx context.Context, id string, change *specs.LinuxResources) error {
	dir, c, err := r.lockAndLoad(ctx, id)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only the lock
	switch c.Status() {
	case state.StatusStopped, state.StatusCreating:
		return state.ErrNotRunning
	}
	u := &update{r: r, dir: dir, container: c}
	if u.sandbox, err = r.Store.LoadSandbox(c.Sandbox); err != nil {
		return err
	}
	if u.host, u.guest, err = oci.SplitUpdate(c.Resources, change); err != nil {
		return err
	}
	if u.size, err = sizeFor(u.sandbox, u.host); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return u.run(ctx)
}

// update is one Update.
type update struct {
	r         *Runtime
	dir       *state.Dir
	container *state.Container
	sandbox   *state.Sandbox
	// host is what the host's cgroup is to hold, guest the change for the guest's.
	host, guest *specs.LinuxResources
	// size is what the VM is to have.
	size state.VMSize
}

// run gives before it takes: the VM grows first, and shrinks last. What fails
// leaves everything as it was.
func (u *update) run(ctx context.Context) error {
	before := u.sandbox.Now
	grown := state.VMSize{CPUs: max(before.CPUs, u.size.CPUs), MemoryMiB: max(before.MemoryMiB, u.size.MemoryMiB)}
	if err := u.r.resize(ctx, u.dir, u.sandbox, grown); err != nil {
		return err
	}
	if err := u.setLimits(ctx); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if undo := u.r.resize(ctx, u.dir, u.sandbox, before); undo != nil {
			err = fmt.Errorf("%w; and undoing it: %w", err, undo)
		}
		return err
	}
	u.container.Resources = u.host
	return errors.Join(u.dir.Save(u.container), u.r.resize(ctx, u.dir, u.sandbox, u.size))
}

// setLimits sets those of both cgroups, or none.
func (u *update) setLimits(ctx context.Context) error {
	c := u.container
	data, err := json.Marshal(u.guest)
	if err != nil {
		return fmt.Errorf("encode the resources: %w", err)
	}
	group, err := cgroup.Open(c.Cgroup.Path, c.Cgroup.Systemd, c.Cgroup.Paths)
	if err != nil {
		return err
	}
	if err := group.Update(c.Resources, u.host, c.Overhead); err != nil {
		return err
	}
	err = u.r.call(ctx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		_, err := agent.Update(ctx, &agentproto.UpdateRequest{
			ContainerId: c.ID, Resources: data, Cpus: uint32(u.size.CPUs), // #nosec G115 -- a small number
		})
		return err
	})
	if err == nil {
		return nil
	}
	// The guest has refused it, so the host's cgroup goes back as well.
	if undo := group.Update(u.host, c.Resources, c.Overhead); undo != nil {
		return fmt.Errorf("%w; and undoing it on the host: %w", err, undo)
	}
	return err
}
