package cgroup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/opencontainers/cgroups"
)

// ErrMemoryHeld says that more memory is in use than a limit would allow, and
// that the kernel cannot take it back.
var ErrMemoryHeld = errors.New("more memory is in use than the limit would be")

// WithoutMemory are the same limits but for those of memory: what a cgroup has of
// these stays when the others are set.
func (l Limits) WithoutMemory() Limits {
	if l.Resources == nil {
		return l
	}
	rest := *l.Resources
	rest.Memory = nil
	return Limits{Resources: &rest, Overhead: l.Overhead}
}

// WithoutSize are the same limits but for all that a VM's size comes from, the
// memory and the CPU quota.
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

// TakesMemory says whether less memory may be used under after than under before.
func TakesMemory(before, after Limits) bool { return after.memory() < before.memory() }

// memory is the limit of memory in bytes, the largest number where there is none.
func (l Limits) memory() int64 {
	if limit := resources(l).Memory; limit > 0 {
		return limit
	}
	return math.MaxInt64
}

// Update changes the limits of a cgroup that is in use. Where the kernel refuses,
// those of before are set again.
func (c *Cgroup) Update(before, after Limits) error {
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

// CheckMemory returns ErrMemoryHeld where the limit of memory is below what is in
// use and cannot be taken back. The kernel would refuse such a limit (cgroup v1)
// or kill until it holds (v2).
func (c *Cgroup) CheckMemory(l Limits) error {
	limit := l.memory()
	if limit == math.MaxInt64 {
		return nil
	}
	stats, err := c.manager.Stats(&cgroups.StatsOptions{Controllers: cgroups.Memory})
	if err != nil {
		return fmt.Errorf("see how much memory the cgroup has in use: %w", err)
	}
	if held := heldMemory(stats.MemoryStats.Stats); held > uint64(limit) { // #nosec G115 -- it is positive
		return fmt.Errorf("%w: %d MiB and %d", ErrMemoryHeld, held>>20, limit>>20)
	}
	return nil
}

// AwaitMemory waits until CheckMemory finds nothing, and returns what it found
// last when ctx is done. The kernel tells nobody that memory was given back.
func (c *Cgroup) AwaitMemory(ctx context.Context, l Limits) error {
	const pause = 20 * time.Millisecond
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		err := c.CheckMemory(l)
		if !errors.Is(err, ErrMemoryHeld) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

// heldMemory is what belongs to processes or is shared by them, as a guest's
// memory is: what is left, in bytes, when the kernel has dropped its caches.
func heldMemory(stat map[string]uint64) uint64 {
	if rss, v1 := stat["total_rss"]; v1 {
		return rss + stat["total_shmem"]
	}
	return stat["anon"] + stat["shmem"]
}
