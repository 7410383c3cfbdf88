package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Join moves the process pid into the cgroups of the process of.
func Join(of, pid int) error {
	to, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", of))
	if err != nil {
		return fmt.Errorf("find cgroup of process %d: %w", of, err)
	}
	dirs, err := directories(to)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := cgroups.WriteCgroupProc(dir, pid); err != nil {
			return fmt.Errorf("move process %d to cgroup of process %d: %w", pid, of, err)
		}
	}
	return nil
}

// moveBack moves a process back into the cgroups that it was in, as far as it can.
func moveBack(before map[string]string, pid int) {
	dirs, err := directories(before)
	if err != nil {
		return
	}
	for _, dir := range dirs {
		_ = cgroups.WriteCgroupProc(dir, pid)
	}
}

// directories are the directories of the cgroups in a /proc/PID/cgroup, which are
// given by controller. A hierarchy that is not mounted has none.
func directories(paths map[string]string) ([]string, error) {
	if cgroups.IsCgroup2UnifiedMode() {
		below, ok := paths[""]
		if !ok {
			return nil, nil
		}
		return []string{filepath.Join(unifiedRoot, below)}, nil
	}
	mounts, err := cgroups.GetCgroupMounts(true)
	if err != nil {
		return nil, fmt.Errorf("find cgroup mounts: %w", err)
	}
	var dirs []string
	for _, m := range mounts {
		for _, controller := range m.Subsystems {
			below, ok := paths[controller]
			if !ok {
				// The list of mounts has named hierarchies without
				// the prefix that /proc/PID/cgroup has.
				below, ok = paths[cgroups.CgroupNamePrefix+controller]
			}
			if !ok {
				continue
			}
			rel, err := filepath.Rel(m.Root, below)
			if err != nil {
				return nil, fmt.Errorf("cgroup %s: %w", below, err)
			}
			if dir := filepath.Join(m.Mountpoint, rel); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
			break
		}
	}
	if below, ok := paths[""]; ok && cgroups.IsCgroup2HybridMode() {
		dirs = append(dirs, filepath.Join(hybridRoot, below))
	}
	return dirs, nil
}

// Where cgroup v2 is mounted, by systemd's convention: alone or, on hybrid hosts,
// beside the hierarchies of v1.
const (
	unifiedRoot = "/sys/fs/cgroup"
	hybridRoot  = "/sys/fs/cgroup/unified"
)

// missingDirs are the directories of paths, and their parents, that do not exist,
// parents first.
func missingDirs(paths map[string]string) []string {
	var out []string
	for _, dir := range paths {
		var chain []string
		for d := dir; d != "/" && d != "."; d = filepath.Dir(d) {
			var st unix.Stat_t
			if err := unix.Lstat(d, &st); !errors.Is(err, fs.ErrNotExist) || slices.Contains(out, d) {
				break
			}
			chain = append(chain, d)
		}
		slices.Reverse(chain)
		out = append(out, chain...)
	}
	return out
}

// removeDirs removes the directories that are not in use, the last first.
func removeDirs(dirs []string) {
	for _, dir := range slices.Backward(dirs) {
		_ = unix.Rmdir(dir)
	}
}
