package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"runch/state"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// destroyTimeout bounds the wait for processes that are on their way out.
const destroyTimeout = 5 * time.Second

// Destroy removes the cgroup of a cgroupsPath; see (*Cgroup).Destroy. A path
// that New refuses was never made, and is no error.
func Destroy(ctx context.Context, path string, systemd bool) error {
	c, err := Open(path, systemd, nil)
	if errors.Is(err, ErrPath) || errors.Is(err, ErrNoSystemd) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Destroy(ctx)
}

// Destroy removes the cgroup with all below it. A cgroup that is not there is
// no error. Processes in it are waited for, at most 5 s, and not killed: if
// they stay, the error is ErrInUse. systemd does kill what is in its unit.
func (c *Cgroup) Destroy(ctx context.Context) error {
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
			// Refused as long as another container is in there.
			_ = unix.Rmdir(filepath.Dir(dir))
		}
	}
	return nil
}

// Remains are the cgroups that a live process is in, where nothing else is
// known of them.
type Remains struct{ paths map[string]string }

// RemainsOf looks at the process's cgroups, which must not be the root.
func RemainsOf(pid int) (*Remains, error) {
	in, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("find cgroup of process %d: %w", pid, err)
	}
	maps.DeleteFunc(in, func(_, path string) bool { return path == "/" })
	dirs, err := directories(in)
	if err != nil {
		return nil, err
	}
	r := &Remains{paths: make(map[string]string)}
	for _, dir := range dirs {
		r.paths[dir] = dir
	}
	return r, nil
}

// Destroy removes what is left of the cgroups once the process is gone, as
// (*Cgroup).Destroy does.
func (r *Remains) Destroy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	return removeOnceEmpty(ctx, r.paths)
}

// removeOnceEmpty removes every path when its processes have ended.
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

// removeAll removes every path, and says why the last did not go.
func removeAll(paths map[string]string) error {
	var last error
	for _, dir := range paths {
		if err := removeTree(dir); err != nil {
			last = err
		}
	}
	return last
}

// removeTree removes a cgroup and those below it. Their files go by
// themselves.
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

// awaitExit waits until a process of the cgroup ends, or for the pause when
// none is seen: the kernel lets go of a cgroup a moment after its last process,
// and cgroup v1 tells nobody. Zombies are none of its processes, and keep nothing.
// It returns false once ctx is done.
func awaitExit(ctx context.Context, paths map[string]string, pause time.Duration) bool {
	for _, pid := range processes(paths) {
		p, err := state.ProcessOf(pid)
		if err != nil || !p.Alive() {
			continue // gone meanwhile
		}
		// Where it cannot be waited for, the pause has to do.
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

// processes lists the processes of all the paths, without repetition.
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
