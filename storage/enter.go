package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"runch/namespace"

	"golang.org/x/sys/unix"
)

// JoinView gives this process the same `/` as the shim with this pid, and detaches
// the host's mounts. The process must have its own copy of the host's mount namespace.
// A multi-threaded process cannot join a mount namespace (setns(2)), so a thread
// joins the shim's and clones the mounts there.
func JoinView(pid int) error {
	view, err := viewOf(pid)
	if err != nil {
		return fmt.Errorf("clone the container's view: %w", err)
	}
	defer view.close()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount namespace private: %w", err)
	}
	// Any directory of the host serves as the mount point: the namespace is
	// this process's own, and the host's tree leaves it at once.
	dir, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a mount point: %w", err)
	}
	defer dir.Close()
	if err := view.attach(dir); err != nil {
		return err
	}
	if err := unix.Fchdir(view.fd); err != nil {
		return fmt.Errorf("chdir to the view: %w", err)
	}
	return pivotHere()
}

func viewOf(pid int) (*mountTree, error) {
	ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns/mnt"))
	if err != nil {
		return nil, fmt.Errorf("open its mount namespace: %w", err)
	}
	defer ns.Close()
	var tree *mountTree
	namespace.Do(func() bool {
		tree, err = cloneIn(ns)
		return false // the thread has another root and mount namespace than the process
	})
	return tree, err
}

func cloneIn(ns *os.File) (*mountTree, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("unshare a thread's root: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("join its mount namespace: %w", err)
	}
	return cloneTree("/", true)
}
