// Package storage owns what a sandbox shares with its guest: one directory in
// a private mount namespace, the clones of rootfs and volumes in it, the
// virtiofsd that serves it, and the view of a container that its shim shows
// as its `/`. It changes the mounts and the root of the calling process, which
// must have a mount namespace of its own.
package storage

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountTree is a tree of mounts that is not attached anywhere: open_tree(2).
type mountTree struct {
	fd int
}

// cloneTree clones the mount that path is on, from path downward; recursive
// takes the mounts below it along. The original may be unmounted afterwards.
func cloneTree(path string, recursive bool) (*mountTree, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return &mountTree{fd: fd}, nil
}

// newTmpfs makes an empty tmpfs; size is in bytes, as tmpfs(5) takes it.
func newTmpfs(size string, attr int) (*mountTree, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open a tmpfs: %w", err)
	}
	defer unix.Close(fs)
	for _, o := range [][2]string{{"size", size}, {"mode", "0755"}} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return nil, fmt.Errorf("set a tmpfs's %s: %w", o[0], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("create a tmpfs: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return &mountTree{fd: fd}, nil
}

// newOverlay makes an overlay with these options. It mounts the overlay on dir for a
// moment, in this mount namespace alone: fsconfig(2) limits each option to 255 bytes, too
// few for some lists of paths. mount(2) limits only all options together, to a page.
func newOverlay(dir string, options []string) (*mountTree, error) {
	data := strings.Join(options, ",")
	if err := unix.Mount("overlay", dir, "overlay", 0, data); err != nil {
		return nil, fmt.Errorf("mount an overlay of %s: %w", data, err)
	}
	tree, err := cloneTree(dir, false)
	if unmountErr := unix.Unmount(dir, unix.MNT_DETACH); err == nil && unmountErr != nil {
		tree.close()
		return nil, fmt.Errorf("unmount an overlay: %w", unmountErr)
	}
	return tree, err
}

// readOnly makes the tree read-only, and with below every mount in it too.
func (t *mountTree) readOnly(below bool) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	flags := uint(unix.AT_EMPTY_PATH)
	if below {
		flags |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(t.fd, "", flags, &attr); err != nil {
		return fmt.Errorf("make read-only: %w", err)
	}
	return nil
}

// private makes the tree, and all mounts of it, independent of what happens where they
// were cloned from.
func (t *mountTree) private() error {
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(t.fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("make private: %w", err)
	}
	return nil
}

// attach mounts the tree on the file or directory that target is open on.
func (t *mountTree) attach(target *os.File) error {
	err := unix.MoveMount(t.fd, "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: target.Name(), Err: err}
	}
	return nil
}

// attachPath mounts the tree on path, whose every element the caller trusts.
func (t *mountTree) attachPath(path string) error {
	target, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a mount point: %w", err)
	}
	defer target.Close()
	return t.attach(target)
}

// treeOf is the tree of a file from open_tree(2). The caller still has to close the file.
func treeOf(f *os.File) *mountTree { return &mountTree{fd: int(f.Fd())} }

// isDir tells a directory, or the tree of one, from a single file.
func isDir(f *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, fmt.Errorf("stat a mount: %w", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// file opens the tree's root, which need not be attached. The caller closes it.
func (t *mountTree) file() (*os.File, error) {
	fd, err := unix.Openat(t.fd, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a mount: %w", err)
	}
	return os.NewFile(uintptr(fd), "mount"), nil
}

// root opens the tree's root for changes below it. The caller closes it.
func (t *mountTree) root() (*os.Root, error) {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", t.fd))
	if err != nil {
		return nil, fmt.Errorf("open a mount: %w", err)
	}
	return root, nil
}

func (t *mountTree) close() {
	_ = unix.Close(t.fd)
}

// SlaveMounts keeps mounts made in this process's mount namespace out of the namespace
// that it was copied from, and mounts a /proc of its own pid namespace. What is mounted
// in the original still appears in the copy, and in the clones of slave volumes.
func SlaveMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make the mount namespace a slave: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}
