package sandbox

import (
	"errors"
	"fmt"
	"os"

	"runch/cgroup"
	"runch/state"
)

// startShim starts the shim in its namespaces and moves it into its cgroup before it
// does anything or starts a child. Shim and cgroup are recorded before the move: this
// command may be killed at any moment.
func (c *creation) startShim(console *os.File) error {
	var err error
	if c.shim, err = spawn(c.shimSpec(console)); err != nil {
		return err
	}
	if c.record.Shim, err = state.ProcessOf(c.shim.pid()); err != nil {
		return fmt.Errorf("identify the shim: %w", err)
	}
	group, made, err := c.r.newCgroup(c.r.cgroupsPath(c.host, c.o.ID), c.limits(), c.record.Annotations)
	if err != nil {
		return err
	}
	c.record.Cgroup = made
	if err := c.sandbox.setShim(c.record); err != nil {
		return err
	}
	if err := c.dir.Save(c.record); err != nil {
		return err
	}
	if c.record.Cgroup, err = c.enterCgroup(group, made, c.shim.pid()); err != nil {
		return err
	}
	if c.record.Cgroup.Path == "" {
		if err := errors.Join(c.sandbox.setShim(c.record), c.dir.Save(c.record)); err != nil {
			return err
		}
	}
	return setOOMScoreAdj(c.shim.pid(), c.host.OOMScoreAdj)
}

// limits are those of the container's cgroup on the host: where the VM is in it,
// the sandbox's.
func (c *creation) limits() cgroup.Limits {
	if c.place.own {
		return hostLimits(c.sandbox.record)
	}
	return cgroup.Limits{Resources: c.record.Resources, Overhead: c.record.Overhead}
}
