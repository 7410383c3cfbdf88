package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A process that was killed ends by itself, with one exception: the init of a pid
// namespace. It becomes a zombie, and its pidfd readable, only when every other
// process of the namespace has been reaped, and who joined from outside is reaped
// by a parent outside, which may take its time or never do it. All that such an init
// still has is the pid.

// onlyZombies tells whether the process is the init of a pid namespace and waits
// there for zombies to be reaped: in the namespace, and in those below it, no process runs.
func onlyZombies(pid int) bool {
	if !isWaitingInit(pid) {
		return false
	}
	namespaces, err := pidNamespacesBelow(pid)
	if err != nil {
		return false // it has ended meanwhile, which the next look sees
	}
	pids, err := allPIDs()
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(pids, func(other int) bool {
		st, err := readStat(other)
		if err != nil || st.zombie() {
			return false
		}
		return namespaces.hold(other) && !isWaitingInit(other)
	})
}

// allPIDs lists the processes. None is missed in a namespace whose init is
// exiting: no process can be made there any more.
func allPIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// isWaitingInit tells whether the process is the init of its pid namespace, and
// no thread of it has anything left to give back.
func isWaitingInit(pid int) bool {
	if !isNamespaceInit(pid) {
		return false
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	for _, thread := range threads {
		dir := fmt.Sprintf("/proc/%d/task/%s", pid, thread.Name())
		st, err := readStatFile(dir + "/stat")
		if err == nil && !st.dead() && !isReleased(st, dir) {
			return false
		}
	}
	return true
}

// isReleased tells whether an exiting thread sleeps and has left its namespaces,
// which it does after its memory and its files are given back.
func isReleased(st stat, dir string) bool {
	if !st.exiting() || st.state != 'S' {
		return false
	}
	_, err := os.Readlink(dir + "/ns/mnt")
	return errors.Is(err, fs.ErrNotExist)
}

// isNamespaceInit tells whether the process has the pid 1 in its own namespace,
// which is the last number of the line.
func isNamespaceInit(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if pids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			numbers := strings.Fields(pids)
			return len(numbers) > 0 && numbers[len(numbers)-1] == "1"
		}
	}
	return false
}

// pidNamespaces knows by its inode whether a pid namespace is a certain one or
// below it.
type pidNamespaces map[uint64]bool

func pidNamespacesBelow(pid int) (pidNamespaces, error) {
	var st unix.Stat_t
	if err := unix.Stat(pidNamespacePath(pid), &st); err != nil {
		return nil, err
	}
	return pidNamespaces{st.Ino: true}, nil
}

// hold tells whether the process is in one of the namespaces. What may not be
// looked at is another user's, and in none.
func (n pidNamespaces) hold(pid int) bool {
	fd, err := unix.Open(pidNamespacePath(pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return n.has(fd)
}

// has tells whether the open namespace is one of them. Above those that the
// caller sees there is none.
func (n pidNamespaces) has(fd int) bool {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false
	}
	if is, known := n[st.Ino]; known {
		return is
	}
	parent, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
	if err != nil {
		n[st.Ino] = false
		return false
	}
	defer unix.Close(parent)
	n[st.Ino] = n.has(parent)
	return n[st.Ino]
}

func pidNamespacePath(pid int) string { return fmt.Sprintf("/proc/%d/ns/pid", pid) }
