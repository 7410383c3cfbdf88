package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Leave makes the tree the root of the mount namespace and detaches all mounts of the
// host that were copied with the namespace. pivot_root(2) changes the root of children
// that still have the host's, too. Leave keeps /proc until EnterView moves it into the
// view: the lookup of paths in the rootfs needs it, and in a user namespace the kernel
// refuses to mount a new proc where none is visible.
func (t *Tree) Leave() error {
	if err := t.takeProc(); err != nil {
		return err
	}
	if err := t.writable.Mkdir(inTree(oldDir), 0o700); err != nil {
		return fmt.Errorf("make a place for the host's root: %w", err)
	}
	if err := unix.PivotRoot(t.dir, filepath.Join(t.dir, oldDir)); err != nil {
		return fmt.Errorf("pivot_root to the sandbox's tree: %w", err)
	}
	t.dir = "/"
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("chdir to the sandbox's tree: %w", err)
	}
	// The host may have several mounts on top of its root: detach each.
	var err error
	for err == nil {
		err = unix.Unmount(oldDir, unix.MNT_DETACH)
	}
	if !errors.Is(err, unix.EINVAL) { // no mount is left there
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	return t.writable.Remove(inTree(oldDir))
}

// procDir is where /proc is, in the tree, too, between Leave and EnterView. oldDir is where
// the host's root is during Leave.
const (
	procDir = "/proc"
	oldDir  = "/old"
)

// inTree converts a path in the namespace's root to one in the writable clone.
func inTree(path string) string { return strings.TrimPrefix(path, "/") }

// DropProc unmounts the /proc that Leave has kept, if it is still there, and removes its
// directory: the VMM stays in the tree and needs no /proc. Call it after Leave.
func (t *Tree) DropProc() error {
	// It is no mount any more (EINVAL) if it was moved into a view.
	if err := unix.Unmount(procDir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("take /proc off the tree: %w", err)
	}
	if err := t.writable.Remove(inTree(procDir)); err != nil {
		return fmt.Errorf("take /proc off the tree: %w", err)
	}
	return nil
}

func (t *Tree) takeProc() error {
	proc, err := cloneTree(procDir, false)
	if err != nil {
		return fmt.Errorf("take /proc along: %w", err)
	}
	defer proc.close()
	if err := t.writable.Mkdir(inTree(procDir), 0o700); err != nil {
		return fmt.Errorf("take /proc along: %w", err)
	}
	return proc.attachPath(filepath.Join(t.dir, procDir))
}
