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

// Join moves the process pid into the cgroups that the process of is in.
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

// moveTo puts a process back where it was; what cannot be is left.
func moveTo(before map[string]string, pid int) {
	dirs, err := directories(before)
	if err != nil {
		return
	}
	for _, dir := range dirs {
		_ = cgroups.WriteCgroupProc(dir, pid)
	}
}

// directories are where the cgroups of a /proc/PID/cgroup, by controller, are
// mounted. Hierarchies that are mounted nowhere are left out.
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
				// The mount list has named hierarchies without
				// the prefix that /proc has.
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

// Where systemd, and everybody since, mounts cgroup v2: alone or, on hybrid
// hosts, beside the hierarchies of v1.
const (
	unifiedRoot = "/sys/fs/cgroup"
	hybridRoot  = "/sys/fs/cgroup/unified"
)

// missingDirs are the directories that making paths would make, parents first.
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

// removeDirs removes what missingDirs found, as far as others do not use it.
func removeDirs(dirs []string) {
	for _, dir := range slices.Backward(dirs) {
		_ = unix.Rmdir(dir)
	}
}
