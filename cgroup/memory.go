package cgroup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// ErrMemoryHeld says that more memory is in use than a limit would allow, and
// that the kernel cannot take it back.
var ErrMemoryHeld = errors.New("more memory is in use than the limit would be")

// CheckMemory returns ErrMemoryHeld where the limit of memory is below what is in
// use and cannot be taken back. The kernel would refuse such a limit (cgroup v1)
// or kill until it holds (v2).
func (c *Cgroup) CheckMemory(l Limits) error {
	_, err := c.checkMemory(l)
	return err
}

// checkMemory is CheckMemory, and gives what it has seen.
func (c *Cgroup) checkMemory(l Limits) (cgroups.MemoryStats, error) {
	limit := l.memory()
	if limit == math.MaxInt64 {
		return cgroups.MemoryStats{}, nil
	}
	stats, err := c.manager.Stats(&cgroups.StatsOptions{Controllers: cgroups.Memory})
	if err != nil {
		return cgroups.MemoryStats{}, fmt.Errorf("see how much memory the cgroup has in use: %w", err)
	}
	if held := heldMemory(stats.MemoryStats); held > uint64(limit) { // #nosec G115 -- it is positive
		return stats.MemoryStats, fmt.Errorf("%w: %d MiB and %d", ErrMemoryHeld, held>>20, limit>>20)
	}
	return stats.MemoryStats, nil
}

// LowerMemory sets the limit of memory, if it is lower than the present one, as
// soon as what is in use fits. It returns ErrMemoryHeld if that is not so before
// ctx is done. The kernel tells nobody that memory was given back.
func (c *Cgroup) LowerMemory(ctx context.Context, l Limits) error {
	const pause = 20 * time.Millisecond
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		err := c.tryMemory(l)
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

// tryMemory sets the limit of memory, or returns ErrMemoryHeld. Cgroup v1 may
// refuse a limit that CheckMemory finds no fault with: the kernel does not wait
// until caches that it could drop are written to their disk.
func (c *Cgroup) tryMemory(l Limits) error {
	seen, err := c.checkMemory(l)
	limit := l.memory()
	if err != nil || uint64(limit) >= seen.Usage.Limit { // #nosec G115 -- it is positive
		return err
	}
	dir, file := c.Paths()[""], "memory.max"
	if v1, ok := c.Paths()["memory"]; ok {
		dir, file = v1, "memory.limit_in_bytes"
	}
	err = cgroups.WriteFile(dir, file, strconv.FormatInt(limit, 10))
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: the kernel refuses it: %w", ErrMemoryHeld, err)
	case err != nil:
		return fmt.Errorf("lower the limit of memory: %w", err)
	}
	return nil
}

// heldMemory is how much, in bytes, is left in use when the kernel has dropped its
// caches. It is what is charged, not what processes have mapped: pages that a
// process has just given back are mapped nowhere, and stay charged until the
// kernel has freed them.
func heldMemory(m cgroups.MemoryStats) uint64 {
	stat := m.Stats
	droppable := stat["active_file"] + stat["inactive_file"] + stat["slab_reclaimable"]
	if _, v1 := stat["total_rss"]; v1 {
		// Of the kernel's own memory cgroup v1 does not say how much is droppable.
		droppable = stat["total_active_file"] + stat["total_inactive_file"] + m.KernelUsage.Usage
	}
	// The figures are not of one instant.
	return m.Usage.Usage - min(droppable, m.Usage.Usage)
}
