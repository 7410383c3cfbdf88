package cgroup

import (
	"errors"
	"fmt"
	"math"
)

// WithoutMemory are the limits without those of memory: a cgroup keeps its own of
// these when the others are set.
func (l Limits) WithoutMemory() Limits {
	if l.Resources == nil {
		return l
	}
	rest := *l.Resources
	rest.Memory = nil
	return Limits{Resources: &rest, Overhead: l.Overhead}
}

// WithoutSize are the limits without those that determine the VM's size: memory and
// CPU quota.
func (l Limits) WithoutSize() Limits {
	l = l.WithoutMemory()
	if l.Resources == nil || l.Resources.CPU == nil {
		return l
	}
	cpu := *l.Resources.CPU
	cpu.Quota, cpu.Period = nil, nil
	l.Resources.CPU = &cpu
	return l
}

// TakesMemory reports whether after allows less memory than before.
func TakesMemory(before, after Limits) bool { return after.memory() < before.memory() }

// memory is the limit of memory in bytes, math.MaxInt64 if there is none.
func (l Limits) memory() int64 {
	if limit := resources(l).Memory; limit > 0 {
		return limit
	}
	return math.MaxInt64
}

// Update changes the limits of a cgroup that is in use. If the kernel refuses one,
// Update sets those of before again. A nil Cgroup holds none.
func (c *Cgroup) Update(before, after Limits) error {
	if c == nil {
		return nil
	}
	limits, old := resources(after), resources(before)
	limits.SkipDevices, old.SkipDevices = true, true
	if err := c.manager.Set(limits); err != nil {
		if undo := c.manager.Set(old); undo != nil {
			err = errors.Join(err, undo)
		}
		return fmt.Errorf("set the limits of the host's cgroup: %w", err)
	}
	return nil
}
