package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onAllCPUs calls start, which makes a process, on a thread that may run on all
// CPUs: what the process is to have, with all its threads, is what its cgroup
// allows, and not what the caller of this command happened to be bound to.
func onAllCPUs(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const thisThread = 0
	var before, all unix.CPUSet
	if err := unix.SchedGetaffinity(thisThread, &before); err != nil {
		return fmt.Errorf("read the CPU affinity: %w", err)
	}
	for cpu := range 8 * int(unsafe.Sizeof(all)) {
		all.Set(cpu)
	}
	// Where the kernel refuses, the caller's affinity stands.
	if err := unix.SchedSetaffinity(thisThread, &all); err == nil {
		defer unix.SchedSetaffinity(thisThread, &before) //nolint:errcheck // it was this thread's
	}
	return start()
}

// setOOMScoreAdj gives a shim, and so the VMM that it starts, the container's
// oom_score_adj, or 0: not the caller's.
func setOOMScoreAdj(pid int, oomScoreAdj *int) error {
	adj := 0
	if oomScoreAdj != nil {
		adj = *oomScoreAdj
	}
	path := filepath.Join("/proc", strconv.Itoa(pid), "oom_score_adj")
	err := os.WriteFile(path, strconv.AppendInt(nil, int64(adj), 10), 0o600)
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("set oom_score_adj: %w", err)
	}
	// Only a privileged process may lower it; the guest's own value is exact.
	return nil
}

// owner is the user who runs the command, by name where there is one.
func owner() string {
	uid := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// dialConsole connects to the caller's console socket; nil without one. It
// does not wait for the caller to accept.
func dialConsole(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to the console socket: %w", err)
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		return nil, fmt.Errorf("connect to the console socket: %w", err)
	}
	return f, nil
}
