package cgroup

import (
	"errors"
	"fmt"
	"math"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// WithoutMemory are the limits without those of memory. When they are set, a cgroup
// keeps the limits of memory that it has.
func (l Limits) WithoutMemory() Limits {
	if l.Resources == nil {
		return l
	}
	rest := *l.Resources
	rest.Memory = nil
	return Limits{Resources: &rest, Overhead: l.Overhead}
}

// WithoutQuota are the limits without that of CPU time. When they are set, a cgroup
// keeps the quota and period that it has.
func (l Limits) WithoutQuota() Limits {
	if l.Resources == nil || l.Resources.CPU == nil {
		return l
	}
	rest, cpu := *l.Resources, *l.Resources.CPU
	cpu.Quota, cpu.Period = nil, nil
	rest.CPU = &cpu
	return Limits{Resources: &rest, Overhead: l.Overhead}
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
	if err := c.set(after); err != nil {
		return errors.Join(err, c.Undo(before, after))
	}
	return nil
}

// Undo takes an Update of the same limits back.
func (c *Cgroup) Undo(before, after Limits) error {
	if c == nil {
		return nil
	}
	return c.set(before.undoing(after))
}

func (c *Cgroup) set(l Limits) error {
	limits := resources(l)
	limits.SkipDevices = true
	if err := c.manager.Set(limits); err != nil {
		return fmt.Errorf("set the limits of the host's cgroup: %w", err)
	}
	return nil
}

// undoing gives the limits that take a cgroup from those of after back to l. A limit that
// is not named would stay as it is; so one that only after has is set to the value of a
// new cgroup, where that value is the same on every host.
func (l Limits) undoing(after Limits) Limits {
	if after.Resources == nil {
		return l
	}
	r := specs.LinuxResources{}
	if l.Resources != nil {
		r = *l.Resources
	}
	if set := after.Resources.Memory; set != nil {
		m := copyOf(r.Memory)
		m.Limit = orNew(m.Limit, set.Limit, -1)
		m.Swap = orNew(m.Swap, set.Swap, -1)
		r.Memory = m
	}
	if set := after.Resources.CPU; set != nil {
		cpu := copyOf(r.CPU)
		cpu.Shares = orNew(cpu.Shares, set.Shares, 1024)
		cpu.Quota = orNew(cpu.Quota, set.Quota, -1)
		cpu.Period = orNew(cpu.Period, set.Period, 100_000) // microseconds
		r.CPU = cpu
	}
	return Limits{Resources: &r, Overhead: l.Overhead}
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	c := *p
	return &c
}

// orNew is limit, or fresh, the value of a new cgroup, if limit is not set but set is.
// Zero means not set.
func orNew[T int64 | uint64](limit, set *T, fresh T) *T {
	if (limit == nil || *limit == 0) && set != nil && *set != 0 {
		return &fresh
	}
	return limit
}
