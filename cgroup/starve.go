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

// Memory is the memory of a cgroup, for a process that will not see the host's
// files any more.
type Memory struct{ dir *os.Root }

// MemoryDir is the one of a cgroup's Paths that has the files of its memory, empty
// if there is none.
func MemoryDir(paths map[string]string) string {
	if v1, ok := paths["memory"]; ok {
		return v1
	}
	return paths[""]
}

// OpenMemory opens the memory of the cgroup with this directory.
func OpenMemory(dir string) (*Memory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the cgroup's memory: %w", err)
	}
	return &Memory{root}, nil
}

// How much memory a victim takes, and how much of that it may have, in bytes. The large
// ones are for cgroup v1, where the OOM killer may choose another process of the cgroup:
// the victim has to be larger than each of them in all that it has mapped. That counts
// the program's file too, of which a shim has 14 MiB mapped.
const (
	smallTake, smallLimit = 4 << 20, 1 << 20
	largeTake, largeLimit = 64 << 20, 32 << 20
)

// Victim is a process in the cgroup that is to be killed.
type Victim struct {
	PID int
	// Take lets it take so many bytes of memory, and returns when it has them and is
	// stopped, or was killed.
	Take func(bytes int) error
	// Ended ends it, if it lives, and returns when it has ended; the error says that
	// it was not killed.
	Ended func() error
}

// Starve makes memory short for the victim, so that the kernel's OOM killer ends it, and
// whoever listens to the cgroup's memory is told of that.
//
// On cgroup v2 it concerns the victim alone, and the others are in a child of the
// cgroup meanwhile. On cgroup v1 only those who listen to the cgroup that is short are
// told, not those above it: all that are in the cgroup have to do without more memory,
// and it is for the caller to see to it that the OOM killer takes the right one.
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

// The children of the cgroup on cgroup v2, where no process may be in one that has
// children with limits. CRI-O knows the first's name: it is the only one that it
// expects to find in a container's cgroup.
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

// moveAll moves the processes of one of the cgroups to another. Those that are being
// moved may start others, but not for ever.
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
				return errForeign // to write it would move this process
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
