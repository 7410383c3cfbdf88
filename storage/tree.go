package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"runch/namespace"

	"golang.org/x/sys/unix"
)

// Tree is a sandbox's directory tree in the holder's mount namespace:
//
//	<dir>               a tmpfs, later the root of the namespace
//	<dir>/own/shared    what virtiofsd serves: <share>/rootfs, <share>/mounts/<n>/<name>
//	<dir>/view          where the view of the holder's own container is put together
//
// The tmpfs is read-only where it is mounted, so the guest cannot replace the directories
// above a mount point by a link. This process writes through a clone that is mounted nowhere.
//
// Shares can be added and removed as long as the tree lives: it reaches the shared
// directory by a file descriptor, whatever the process's root is. The tree ends with the
// mount namespace, when the last process in it ends.
type Tree struct {
	dir    string
	shared *os.File
	// clone keeps the writable clone of the tmpfs; writable is its root.
	clone    *mountTree
	writable *os.Root

	mu sync.Mutex
	// sharedRoot is shared in the writable clone.
	sharedRoot *os.Root
	// shares are the paths that are mounted for each share.
	shares map[string][]string
}

// ErrNoShare says that the tree has no share of that name.
var ErrNoShare = errors.New("no such share")

// treeSize bounds the tmpfs, which holds mount points only.
const treeSize = "1m"

// passage is the mode of the directories that lead to a rootfs or a volume. A
// container's init that is root only in its user namespace has no more rights to
// them than any other user.
const passage = 0o711

// NewTree makes the tree at dir, an empty directory, in the process's own
// mount namespace (SlaveMounts).
func NewTree(dir string) (*Tree, error) {
	tmpfs, err := newTmpfs(treeSize, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, err
	}
	defer tmpfs.close()
	if err := tmpfs.attachPath(dir); err != nil {
		return nil, err
	}
	t := &Tree{dir: dir, shares: make(map[string][]string)}
	if t.clone, err = cloneTree(dir, false); err != nil {
		return nil, err
	}
	if err := tmpfs.readOnly(false); err != nil {
		return nil, err
	}
	if t.writable, err = t.clone.root(); err != nil {
		return nil, err
	}
	// An unprivileged VMM is in this mount namespace, too. The mode of own stops it.
	for path, mode := range map[string]os.FileMode{"own": 0o700, viewDir: 0o700} {
		if err := t.writable.Mkdir(path, mode); err != nil {
			return nil, fmt.Errorf("make the sandbox's tree: %w", err)
		}
	}
	if err := t.writable.Mkdir(sharedDir, passage); err != nil {
		return nil, fmt.Errorf("make the shared directory: %w", err)
	}
	if t.sharedRoot, err = t.writable.OpenRoot(sharedDir); err != nil {
		return nil, fmt.Errorf("open the shared directory: %w", err)
	}
	if t.shared, err = os.Open(t.Shared()); err != nil {
		return nil, fmt.Errorf("open the shared directory: %w", err)
	}
	return t, nil
}

// The directories of the tree.
const (
	sharedDir = "own/shared"
	viewDir   = "view"
)

// Shared is the directory that virtiofsd serves.
func (t *Tree) Shared() string { return filepath.Join(t.dir, sharedDir) }

func (t *Tree) view() string { return filepath.Join(t.dir, viewDir) }

func (t *Tree) fd() int { return int(t.shared.Fd()) }

// Share attaches a container's mounts below the share's name. It may be called
// again for the same share.
func (t *Tree) Share(name string, mounts []Mount) error {
	if !filepath.IsLocal(name) || filepath.Base(name) != name {
		return fmt.Errorf("share %q: not a name", name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.sharedRoot.MkdirAll(name, passage); err != nil {
		return fmt.Errorf("make the container's shared directory: %w", err)
	}
	if _, ok := t.shares[name]; !ok {
		t.shares[name] = nil
	}
	for _, m := range mounts {
		// Record the path first, so that Unshare cleans up after an attach that fails.
		t.shares[name] = append(t.shares[name], m.Path)
		if err := t.attach(name, m); err != nil {
			return fmt.Errorf("share %s: %w", m.Path, err)
		}
	}
	return nil
}

func (t *Tree) attach(name string, m Mount) error {
	if !filepath.IsLocal(m.Path) {
		return errors.New("not a path in the share")
	}
	target := filepath.Join(name, m.Path)
	if err := t.sharedRoot.MkdirAll(filepath.Dir(target), passage); err != nil {
		return fmt.Errorf("make a volume's directory: %w", err)
	}
	dir, err := isDir(m.File)
	if err != nil {
		return err
	}
	if err := t.touch(target, dir); err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	err = unix.MoveMount(int(m.File.Fd()), "", t.fd(), target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// touch makes the mount point for a tree: a directory, or an empty file.
func (t *Tree) touch(path string, dir bool) error {
	if dir {
		return t.sharedRoot.Mkdir(path, 0o755)
	}
	f, err := t.sharedRoot.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Protect makes a share's rootfs read-only on the host, whatever the guest does. Call
// it after the guest has made its mount points. It has an effect on virtiofsd because
// that is in the same mount namespace.
func (t *Tree) Protect(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(t.fd(), filepath.Join(name, RootfsPath), unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("make the rootfs read-only: %w", err)
	}
	return nil
}

// Clones clones what is mounted for a share, as it is now. The caller closes the
// mounts.
func (t *Tree) Clones(name string) (mounts []Mount, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	paths, ok := t.shares[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoShare, name)
	}
	for _, path := range paths {
		fd, err := unix.OpenTree(t.fd(), filepath.Join(name, path), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			CloseMounts(mounts)
			return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
		}
		mounts = append(mounts, Mount{Path: path, File: os.NewFile(uintptr(fd), path)})
	}
	return mounts, nil
}

// Unshare detaches what is mounted for a share, and removes its directory. An unknown
// name is no error: the share may have been removed before.
func (t *Tree) Unshare(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	paths, ok := t.shares[name]
	if !ok {
		return nil
	}
	if err := t.detach(name, paths); err != nil {
		return fmt.Errorf("detach the share %s: %w", name, err)
	}
	delete(t.shares, name)
	return t.removeDirs(name, paths)
}

// detach unmounts paths of a share, the last one first. umount(2) takes no file
// descriptor, so a thread gets the shared directory as its own working directory.
func (t *Tree) detach(name string, paths []string) (err error) {
	namespace.Do(func() bool {
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return true
		}
		if err = unix.Fchdir(t.fd()); err != nil {
			return false
		}
		for _, path := range slices.Backward(paths) {
			err = unix.Unmount(filepath.Join(name, path), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			// After an attach that failed, or on a second try, there may be no mount
			// (EINVAL) or no mount point (ENOENT).
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return false
			}
		}
		err = nil
		return false
	})
	return err
}

// removeDirs removes a share's mount points and what leads to them. One that is not
// empty, or still has a mount on it, stays and is an error.
func (t *Tree) removeDirs(name string, paths []string) error {
	var dirs []string
	for _, path := range slices.Backward(paths) {
		for dir := filepath.Join(name, path); dir != "."; dir = filepath.Dir(dir) {
			dirs = append(dirs, dir)
		}
	}
	dirs = append(dirs, name)
	slices.SortStableFunc(dirs, func(a, b string) int { return len(b) - len(a) })
	for _, dir := range slices.Compact(dirs) {
		if err := t.sharedRoot.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the share's directory: %w", err)
		}
	}
	return nil
}
