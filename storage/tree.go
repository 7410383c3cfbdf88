package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"runch/oci"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Tree is a sandbox's directory tree in the shim's mount namespace:
//
//	<dir>               a tmpfs, later the root of the namespace
//	<dir>/own/shared    what virtiofsd serves: <container id>/rootfs, <container id>/mounts/<n>/<name>
//	<dir>/view          where the container's view is put together
//
// The namespace dies with the last process in it, and the tree with it.
type Tree struct {
	dir string
}

// treeSize bounds the tmpfs, which holds mount points only.
const treeSize = "1m"

// passage is the mode of what leads to a rootfs or a volume. In the guest a
// container's init may be root of its user namespace alone, and passes through
// as any other user does.
const passage = 0o711

// Bind is a volume of a container.
type Bind struct {
	// Source is a path on the host.
	Source string
	// Destination is a path in the container.
	Destination string
	// Guest is the path under which the guest finds it, relative to the
	// container's part of the shared directory: mounts/<n>/<name>.
	Guest string
	// ReadOnly makes the host refuse writes, whatever the guest does.
	ReadOnly bool
	// ReadOnlyBelow is ReadOnly for the mounts below Source.
	ReadOnlyBelow bool
	// Recursive takes the mounts below Source along.
	Recursive bool
	// IDMap shows the owners of its files as others; nil leaves them.
	IDMap *oci.IDMap
}

// NewTree makes the tree at dir, an empty directory, in the process's own
// mount namespace, which must be private (PrivateMounts).
func NewTree(dir string) (*Tree, error) {
	tmpfs, err := newTmpfs(treeSize, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, err
	}
	defer tmpfs.close()
	if err := tmpfs.attachPath(dir); err != nil {
		return nil, err
	}
	t := &Tree{dir: dir}
	// An unprivileged VMM shares the namespace: it gets no further than here.
	if err := os.Mkdir(filepath.Dir(t.Shared()), 0o700); err != nil {
		return nil, fmt.Errorf("make the shared directory: %w", err)
	}
	if err := os.Mkdir(t.Shared(), passage); err != nil {
		return nil, fmt.Errorf("make the shared directory: %w", err)
	}
	if err := os.Mkdir(t.view(), 0o700); err != nil {
		return nil, fmt.Errorf("make the view: %w", err)
	}
	return t, nil
}

// Shared is the directory that virtiofsd serves.
func (t *Tree) Shared() string { return filepath.Join(t.dir, "own", "shared") }

func (t *Tree) view() string { return filepath.Join(t.dir, "view") }

// Share clones a container's rootfs and volumes into the shared directory.
func (t *Tree) Share(id, rootfs string, binds []Bind) error {
	base := filepath.Join(t.Shared(), id)
	if err := os.MkdirAll(base, passage); err != nil {
		return fmt.Errorf("make the container's shared directory: %w", err)
	}
	if err := share(filepath.Join(base, "rootfs"), Bind{Source: rootfs, Recursive: true}); err != nil {
		return fmt.Errorf("share the rootfs %s: %w", rootfs, err)
	}
	for _, b := range binds {
		target := filepath.Join(base, b.Guest)
		if err := os.MkdirAll(filepath.Dir(target), passage); err != nil {
			return fmt.Errorf("make a volume's directory: %w", err)
		}
		if err := share(target, b); err != nil {
			return fmt.Errorf("share the volume %s: %w", b.Source, err)
		}
	}
	return nil
}

// maxSubmounts bounds what Submounts lists. Those beyond it are found by the
// guest when they are used.
const maxSubmounts = 1024

// Submounts are the mounts below a container's rootfs and volumes that came with
// these, relative to the shared directory, each after the one that it is in.
func (t *Tree) Submounts(id string) ([]string, error) {
	base := filepath.Join(t.Shared(), id)
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(base))
	if err != nil {
		return nil, fmt.Errorf("list the container's mounts: %w", err)
	}
	roots := make(map[string]bool)
	var below []string
	for _, m := range mounts {
		// <id>/rootfs and <id>/mounts/<n>/<name> are the trees themselves.
		rel, err := filepath.Rel(t.Shared(), m.Mountpoint)
		if err != nil {
			return nil, fmt.Errorf("list the container's mounts: %w", err)
		}
		if !isBelow(roots, rel) {
			roots[rel] = true
			continue
		}
		below = append(below, rel)
	}
	return below[:min(len(below), maxSubmounts)], nil
}

// isBelow tells whether a path is below one of the roots.
func isBelow(roots map[string]bool, path string) bool {
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		if roots[dir] {
			return true
		}
	}
	return false
}

// Protect makes a container's rootfs read-only from the host's side, whatever
// the guest does. The guest has made its mount points by then. It reaches
// virtiofsd because that is in this mount namespace too.
func (t *Tree) Protect(id string) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	rootfs := filepath.Join(t.Shared(), id, "rootfs")
	if err := unix.MountSetattr(unix.AT_FDCWD, rootfs, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("make the rootfs read-only: %w", err)
	}
	return nil
}

func share(target string, b Bind) error {
	tree, err := cloneTree(b.Source, b.Recursive)
	if err != nil {
		return err
	}
	defer tree.close()
	if b.IDMap != nil {
		if err := tree.mapIDs(b.Source, b.IDMap); err != nil {
			return err
		}
	}
	if b.ReadOnly {
		if err := tree.readOnly(b.ReadOnlyBelow); err != nil {
			return err
		}
	}
	dir, err := tree.isDir()
	if err != nil {
		return err
	}
	if err := touch(target, dir); err != nil {
		return err
	}
	return tree.attachPath(target)
}

// Leave makes the tree the root of the mount namespace and lets go of
// everything of the host's that was copied with the namespace. A child that
// still had the host's root has the tree's from then on. /proc comes along until
// BuildView moves it into the view: paths are followed by it, and in a user
// namespace no new one can be mounted where none is to be seen.
func (t *Tree) Leave() error {
	if err := t.takeProc(); err != nil {
		return err
	}
	old := filepath.Join(t.dir, "old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return fmt.Errorf("make a place for the host's root: %w", err)
	}
	if err := unix.PivotRoot(t.dir, old); err != nil {
		return fmt.Errorf("pivot_root to the sandbox's tree: %w", err)
	}
	t.dir = "/"
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("chdir to the sandbox's tree: %w", err)
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	return errors.Join(os.Remove("/old"))
}

// procDir is where /proc is between Leave and BuildView.
const procDir = "/proc"

func (t *Tree) takeProc() error {
	proc, err := cloneTree(procDir, false)
	if err != nil {
		return fmt.Errorf("take /proc along: %w", err)
	}
	defer proc.close()
	dir := filepath.Join(t.dir, procDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("take /proc along: %w", err)
	}
	return proc.attachPath(dir)
}
