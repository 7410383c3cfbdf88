package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Memory gives access to a cgroup's memory files, also after the process has changed
// its root and cannot see them by their paths.
type Memory struct{ dir *os.Root }

// MemoryDir is the directory among a cgroup's Paths that has its memory files, empty
// if there is none.
func MemoryDir(paths map[string]string) string {
	if v1, ok := paths["memory"]; ok {
		return v1
	}
	return paths[""]
}

// OpenMemory opens the memory files of the cgroup with this directory.
func OpenMemory(dir string) (*Memory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the cgroup's memory: %w", err)
	}
	return &Memory{root}, nil
}

// How much memory a victim takes, and how much of that it may have, in bytes. The large
// values are for cgroup v1, where the OOM killer may choose another process of the cgroup:
// the victim has to have more memory mapped than any of them. Mapped files count, too, and
// a shim has 14 MiB of its program's file mapped.
const (
	smallTake, smallLimit = 4 << 20, 1 << 20
	largeTake, largeLimit = 64 << 20, 32 << 20
)

// Victim is a process in the cgroup that is to be killed.
type Victim struct {
	PID int
	// Take makes it take this many bytes of memory, and returns when it has them and is
	// stopped, or when it was killed.
	Take func(bytes int) error
	// Ended ends it, if it lives, and returns when it has ended. It returns an error if
	// the victim ended otherwise than by SIGKILL.
	Ended func() error
}

// Starve makes memory short for the victim, so that the kernel's OOM killer kills it and
// notifies the processes that listen to the cgroup's memory events.
//
// On cgroup v2 only the victim is short of memory: the other processes are in another
// child of the cgroup meanwhile. On cgroup v1 the kernel notifies listeners of the cgroup
// whose limit is met, but not those of its parents. So Starve lowers the limit of the
// whole cgroup, and the caller has to make sure that the OOM killer chooses the victim.
func (m *Memory) Starve(v Victim) error {
	if _, err := m.dir.Stat("memory.limit_in_bytes"); err == nil {
		return m.starveAll(v)
	}
	return m.starveOne(v)
}

func (m *Memory) starveAll(v Victim) error {
	const limit = "memory.limit_in_bytes"
	// The kernel reclaims the cgroup's caches before it kills, so they are emptied first.
	// On a kernel that no longer has this file they are reclaimed while the victim takes
	// memory.
	_ = m.write("memory.force_empty", "0")
	before, err := m.dir.ReadFile(limit)
	if err != nil {
		return fmt.Errorf("read the limit of memory: %w", err)
	}
	usage, err := m.dir.ReadFile("memory.usage_in_bytes")
	if err != nil {
		return fmt.Errorf("read the memory in use: %w", err)
	}
	used, err := strconv.ParseInt(strings.TrimSpace(string(usage)), 10, 64)
	if err != nil {
		return fmt.Errorf("read the memory in use: %w", err)
	}
	// The kernel refuses a limit that is below what is in use by now.
	if err := m.write(limit, strconv.FormatInt(used+largeLimit, 10)); err != nil {
		return fmt.Errorf("lower the limit of memory: %w", err)
	}
	return errors.Join(v.Take(largeTake), v.Ended(), m.write(limit, strings.TrimSpace(string(before))))
}

// The children of the cgroup on cgroup v2, where no process may be in a cgroup that has
// children with limits. restChild has the only name of a child that CRI-O expects in a
// container's cgroup.
const (
	restChild = "container"
	oomChild  = "oom"
)

func (m *Memory) starveOne(v Victim) (err error) {
	for _, step := range []struct{ do, undo func() error }{
		{m.mkdir(restChild), func() error { return errors.Join(m.moveAll(restChild, "."), m.dir.Remove(restChild)) }},
		{func() error { return m.moveAll(".", restChild) }, func() error { return nil }},
		{m.control("+memory"), m.control("-memory")},
		{m.mkdir(oomChild), func() error { return m.dir.Remove(oomChild) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("make a cgroup that is short of memory: %w", err)
		}
		defer func() {
			if undo := step.undo(); undo != nil {
				err = errors.Join(err, fmt.Errorf("remove the cgroup that is short of memory: %w", undo))
			}
		}()
	}
	// A kernel without swap has no such file.
	if err := m.write(path.Join(oomChild, "memory.swap.max"), "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("limit swap: %w", err)
	}
	if err := m.write(path.Join(oomChild, "cgroup.procs"), strconv.Itoa(v.PID)); err != nil {
		return fmt.Errorf("move process %d to a cgroup of its own: %w", v.PID, err)
	}
	// The limit is set last: the kernel then kills until the cgroup is below it. If the
	// victim ran into a limit by itself, the first event would be "max" and not a kill,
	// and conmon stops listening after an event that is no kill. So the victim is stopped
	// by then.
	if err := v.Take(smallTake); err != nil {
		return err
	}
	err = m.write(path.Join(oomChild, "memory.max"), strconv.Itoa(smallLimit))
	return errors.Join(err, v.Ended())
}

func (m *Memory) mkdir(name string) func() error {
	return func() error { return m.dir.Mkdir(name, 0o755) }
}

func (m *Memory) control(change string) func() error {
	return func() error { return m.write("cgroup.subtree_control", change) }
}

// errForeign says that a process cannot be named from this pid namespace.
var errForeign = errors.New("a process of another pid namespace is in it")

// moveAll moves the processes of one of the cgroups to another. Processes may fork
// meanwhile, so it repeats that, up to a bound.
func (m *Memory) moveAll(from, to string) error {
	const rounds = 10
	for range rounds {
		data, err := m.dir.ReadFile(path.Join(from, "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(string(data))
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if pid == "0" {
				return errForeign // writing 0 would move this process
			}
			if err := m.write(path.Join(to, "cgroup.procs"), pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return ErrInUse
}

// write writes to a file that is there.
func (m *Memory) write(name, value string) error {
	f, err := m.dir.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
