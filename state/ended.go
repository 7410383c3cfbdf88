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

	"runch/procstat"
)

// The kernel does not let the init of a pid namespace become a zombie, or its pidfd
// readable, before every other process of the namespace is reaped. A process that has
// joined the namespace is reaped by its parent outside, which may do it late or never.
// By then the init has released everything but its pid.

// onlyZombies reports whether the process is such a waiting init, and nothing but
// zombies and waiting inits is left in its pid namespace and in those nested in it.
func onlyZombies(pid int) bool {
	if !isWaitingInit(pid) {
		return false
	}
	namespaces, err := pidNamespacesBelow(pid)
	if err != nil {
		return false // it has just been reaped, and the next call sees that
	}
	pids, err := allPIDs()
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(pids, func(other int) bool {
		st, err := procstat.Of(other)
		if err != nil || st.Zombie() {
			return false
		}
		return namespaces.hold(other) && !isWaitingInit(other)
	})
}

// allPIDs lists the processes. The list is complete for a namespace whose init is
// exiting, because the kernel creates no process in it any more.
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

// isWaitingInit reports whether the process is the init of its pid namespace, and all its
// threads have ended or released what they held.
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
		st, err := procstat.Read(dir)
		if err == nil && !st.Dead() && !isReleased(st, dir) {
			return false
		}
	}
	return true
}

// isReleased reports whether an exiting thread has released its memory and its files:
// it sleeps, and has left its namespaces, which is the step after those. The state in
// which it sleeps depends on the kernel: S in 6.18, I in 6.12.
func isReleased(st procstat.Stat, dir string) bool {
	if !st.Exiting() || !strings.ContainsRune("SID", rune(st.State)) {
		return false
	}
	_, err := os.Readlink(dir + "/ns/mnt")
	return errors.Is(err, fs.ErrNotExist)
}

// isNamespaceInit reports whether the process has pid 1 in its own pid namespace,
// the innermost, which is the last in the list of NSpid.
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

// pidNamespaces maps the inode of a pid namespace to whether it is a certain one or
// nested in it.
type pidNamespaces map[uint64]bool

func pidNamespacesBelow(pid int) (pidNamespaces, error) {
	var st unix.Stat_t
	if err := unix.Stat(pidNamespacePath(pid), &st); err != nil {
		return nil, err
	}
	return pidNamespaces{st.Ino: true}, nil
}

// hold reports whether the process is in one of the namespaces. A process that the
// caller may not inspect belongs to another user and is in none of them.
func (n pidNamespaces) hold(pid int) bool {
	fd, err := unix.Open(pidNamespacePath(pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return n.has(fd)
}

// has reports whether the open namespace is one of them. The search ends at the caller's
// own namespace, whose parent the kernel does not let it open.
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
