package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"runch/state"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// destroyTimeout bounds the wait for processes that are exiting.
const destroyTimeout = 5 * time.Second

// Destroy removes the cgroup and its children. A cgroup that does not exist is no
// error. Destroy waits at most 5 s for the processes in it to end and does not
// kill them; if they do not, the error is ErrInUse. systemd kills the processes
// of its unit. A nil Cgroup is none.
func (c *Cgroup) Destroy(ctx context.Context) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	paths := c.Paths()
	if c.systemd {
		if err := c.manager.Destroy(); err != nil {
			return fmt.Errorf("stop cgroup's unit: %w", err)
		}
	}
	if err := removeOnceEmpty(ctx, paths); err != nil {
		return err
	}
	if c.ours {
		for _, dir := range paths {
			// The kernel refuses while another container's cgroup is in it.
			_ = unix.Rmdir(filepath.Dir(dir))
		}
	}
	return nil
}

// Leftover are the cgroups of a process that is in no record.
type Leftover struct{ paths map[string]string }

// LeftoverOf finds the cgroups of a live process that were made for it: neither the root
// cgroup, nor one that the calling process is in itself.
func LeftoverOf(pid int) (*Leftover, error) {
	in, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("find cgroup of process %d: %w", pid, err)
	}
	maps.DeleteFunc(in, func(_, path string) bool { return path == "/" })
	dirs, err := directories(in)
	if err != nil {
		return nil, err
	}
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find this process's cgroup: %w", err)
	}
	ownDirs, err := directories(own)
	if err != nil {
		return nil, err
	}
	l := &Leftover{paths: make(map[string]string)}
	for _, dir := range dirs {
		within := func(own string) bool { return own == dir || strings.HasPrefix(own, dir+"/") }
		if !slices.ContainsFunc(ownDirs, within) {
			l.paths[dir] = dir
		}
	}
	return l, nil
}

// Destroy removes the cgroups once the process has ended, as (*Cgroup).Destroy does.
func (l *Leftover) Destroy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	return removeOnceEmpty(ctx, l.paths)
}

// removeOnceEmpty removes all directories as soon as their processes have ended.
func removeOnceEmpty(ctx context.Context, paths map[string]string) error {
	pause := time.Millisecond
	for {
		err := removeAll(paths)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
		if !awaitExit(ctx, paths, pause) {
			return fmt.Errorf("remove cgroup: %w: %w (processes in it: %v)", ErrInUse, err, processes(paths))
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// removeAll removes all directories that it can, and returns the last error.
func removeAll(paths map[string]string) error {
	var last error
	for _, dir := range paths {
		if err := removeTree(dir); err != nil {
			last = err
		}
	}
	return last
}

// removeTree removes a cgroup and its children. The kernel removes their files.
func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	entries, readErr := os.ReadDir(dir)
	if errors.Is(readErr, fs.ErrNotExist) {
		return nil
	}
	if readErr != nil {
		return readErr
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// awaitExit waits until a process of the cgroup ends, and for the pause: the kernel
// releases a cgroup a moment after its last process has ended, and cgroup v1 has no
// event for that. A zombie is in no cgroup and does not keep one from being removed.
// awaitExit returns false once ctx is done.
func awaitExit(ctx context.Context, paths map[string]string, pause time.Duration) bool {
	for _, pid := range processes(paths) {
		p, err := state.ProcessOf(pid)
		if err != nil || !p.Alive() {
			continue // it has ended since
		}
		// If it cannot be waited for, the pause has to be enough.
		_ = p.AwaitEnd(ctx)
		break
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// processes lists the processes of all directories, each once.
func processes(paths map[string]string) []int {
	seen := map[int]bool{}
	var out []int
	for _, dir := range paths {
		pids, err := cgroups.GetAllPids(dir)
		if err != nil {
			continue
		}
		for _, pid := range pids {
			if !seen[pid] {
				seen[pid] = true
				out = append(out, pid)
			}
		}
	}
	return out
}
