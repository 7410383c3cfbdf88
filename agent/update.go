package agent

import (
	"bytes"
	"context"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"runch/agentproto"
	"runch/oci"
)

// Update changes the limits of a container's cgroup.
func (a *Agent) Update(ctx context.Context, req *agentproto.UpdateRequest) (*agentproto.UpdateResponse, error) {
	if len(req.GetResources()) > maxSpec {
		return nil, invalidf("resources: longer than %d bytes", maxSpec)
	}
	change, err := oci.DecodeResources(bytes.NewReader(req.GetResources()))
	if err != nil {
		return nil, invalidf("resources: %v", err)
	}
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := takeCPUs(ctx, int(req.GetCpus())); err != nil {
		return nil, err
	}
	return &agentproto.UpdateResponse{}, c.update(change)
}

// update merges a change into the container's resources. A change that the kernel
// refuses has no effect.
func (c *container) update(change *specs.LinuxResources) error {
	c.updating.Lock()
	defer c.updating.Unlock()
	if c.state() == stopped {
		return errNotRunning
	}
	merged := oci.MergeResources(c.resources, change)
	merged.Devices = nil // device rules stay as they were at creation
	cg, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{
		CgroupName: c.id,
		Spec:       &specs.Spec{Linux: &specs.Linux{Resources: merged}},
	}, nil)
	if err != nil {
		return err
	}
	cg.SkipDevices = true
	config := *c.config
	cgroup := *c.config.Cgroups
	cgroup.Resources = cg.Resources
	config.Cgroups = &cgroup
	// A handle of its own: SkipDevices must not stay on those that start processes.
	h, err := libcontainer.Load(stateDir, c.id)
	if err != nil {
		return err
	}
	if err := h.Set(config); err != nil {
		return err
	}
	c.resources = merged
	return nil
}
