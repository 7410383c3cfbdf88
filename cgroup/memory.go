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
// that the kernel cannot reclaim it.
var ErrMemoryHeld = errors.New("more memory is in use than the limit would be")

// CheckMemory returns ErrMemoryHeld if the limit of memory is below what is in use
// and cannot be reclaimed. The kernel refuses such a limit (cgroup v1) or kills
// processes until it holds (v2). A nil Cgroup has no limit.
func (c *Cgroup) CheckMemory(l Limits) error {
	if c == nil {
		return nil
	}
	_, err := c.checkMemory(l)
	return err
}

// checkMemory is CheckMemory; it also returns the figures.
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
// soon as the memory in use allows it. It returns ErrMemoryHeld if ctx is done before
// that. It polls, since the kernel has no event for memory that is freed. A nil Cgroup
// has no limit.
func (c *Cgroup) LowerMemory(ctx context.Context, l Limits) error {
	if c == nil {
		return nil
	}
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

// tryMemory sets the limit of memory or returns ErrMemoryHeld. Cgroup v1 may refuse
// a limit that passes CheckMemory: the kernel does not wait until dirty pages of the
// page cache are written back.
func (c *Cgroup) tryMemory(l Limits) error {
	seen, err := c.checkMemory(l)
	limit := l.memory()
	if err != nil || uint64(limit) >= seen.Usage.Limit { // #nosec G115 -- it is positive
		return err
	}
	file := "memory.max"
	if _, v1 := c.Paths()["memory"]; v1 {
		file = "memory.limit_in_bytes"
	}
	err = cgroups.WriteFile(MemoryDir(c.Paths()), file, strconv.FormatInt(limit, 10))
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: the kernel refuses it: %w", ErrMemoryHeld, err)
	case err != nil:
		return fmt.Errorf("lower the limit of memory: %w", err)
	}
	return nil
}

// heldMemory is how many bytes stay in use when the kernel has reclaimed its caches.
// It counts what is charged, not what processes have mapped: pages that a process
// has just unmapped stay charged until the kernel has freed them.
func heldMemory(m cgroups.MemoryStats) uint64 {
	stat := m.Stats
	reclaimable := stat["active_file"] + stat["inactive_file"] + stat["slab_reclaimable"]
	if _, v1 := stat["total_rss"]; v1 {
		// Cgroup v1 does not say how much of the kernel's memory is reclaimable.
		reclaimable = stat["total_active_file"] + stat["total_inactive_file"] + m.KernelUsage.Usage
	}
	// The figures are not read at the same time.
	return m.Usage.Usage - min(reclaimable, m.Usage.Usage)
}
