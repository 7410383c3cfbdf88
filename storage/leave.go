package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Leave makes the tree the root of the mount namespace and lets go of everything of the
// host's that was copied with the namespace. A child that still had the host's root has
// the tree's from then on. /proc is taken along until it is moved into the view: paths in
// the rootfs are looked up with its help, and in a user namespace the kernel lets nobody
// mount a new one where none is visible.
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
	// Where the host has mounts on top of its root, each is one to let go of.
	var err error
	for err == nil {
		err = unix.Unmount(oldDir, unix.MNT_DETACH)
	}
	if !errors.Is(err, unix.EINVAL) { // no mount is left there
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	return t.writable.Remove(inTree(oldDir))
}

// procDir is where /proc is, between Leave and the view too. oldDir is where the host's
// root is during Leave.
const (
	procDir = "/proc"
	oldDir  = "/old"
)

// inTree is a path of the namespace's root as the writable clone has it.
func inTree(path string) string { return strings.TrimPrefix(path, "/") }

// DropProc removes the /proc that Leave has taken along, or the place where it was:
// the VMM stays in the tree. Called after Leave.
func (t *Tree) DropProc() error {
	// It is no mount any more where it was moved into a view.
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
