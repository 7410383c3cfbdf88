package state

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"runch/procstat"
)

// Shims lists the pids of the shims in the pid namespace of p, a container's shim: p and
// the shims of its execs, which processes outside of that namespace have started. It leaves
// out what p has started itself: the VMM and virtiofsd, if p is a holder.
func (p Process) Shims() ([]int, error) {
	var own unix.Stat_t
	if err := unix.Stat(pidNamespacePath(p.PID), &own); err != nil {
		return nil, fmt.Errorf("look into the container's pid namespace: %w", err)
	}
	pids, err := allPIDs()
	if err != nil {
		return nil, fmt.Errorf("list the host's processes: %w", err)
	}
	parents := make(map[int]int)
	for _, pid := range pids {
		// One that the caller may not look at is another user's, and none of these.
		var other unix.Stat_t
		if err := unix.Stat(pidNamespacePath(pid), &other); err != nil || other.Ino != own.Ino {
			continue
		}
		if st, err := procstat.Of(pid); err == nil && !st.Zombie() {
			parents[pid] = st.Parent
		}
	}
	var shims []int
	for pid := range parents {
		if _, inside := parents[parents[pid]]; !inside {
			shims = append(shims, pid)
		}
	}
	slices.Sort(shims)
	return shims, nil
}
