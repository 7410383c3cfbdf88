package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// View says what the container looks like from the host.
type View struct {
	// Binds are the container's volumes, in the order of its mounts.
	Binds []Bind
	// Tmpfs are the destinations of file systems that live in the guest
	// alone. The view has an empty read-only one there, so that a copy to
	// it fails instead of going to a file that nobody in the guest sees.
	Tmpfs []string
}

// BuildView puts the container's rootfs and volumes together and makes that
// `/` for this process and for whoever enters its mount namespace. The guest
// has made the mount points by then. Called after Leave.
func (t *Tree) BuildView(id string, v View) error {
	base := filepath.Join(t.Shared(), id)
	if err := share(t.view(), Bind{Source: filepath.Join(base, "rootfs"), Recursive: true}); err != nil {
		return fmt.Errorf("clone the rootfs: %w", err)
	}
	root, err := os.OpenFile(t.view(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the view: %w", err)
	}
	defer root.Close()
	for _, dest := range v.Tmpfs {
		if err := coverGuestOnly(root, base, dest, v.Binds); err != nil {
			return fmt.Errorf("cover %s: %w", dest, err)
		}
	}
	for _, b := range v.Binds {
		if err := bindInView(root, filepath.Join(base, b.Guest), b); err != nil {
			return fmt.Errorf("bind %s: %w", b.Destination, err)
		}
	}
	if err := moveProc(root); err != nil {
		return err
	}
	return enterView(t.view())
}

// openInView opens a path under root, following the links in it as a process
// with that root would. A path that is not there gives nil.
func openInView(root *os.File, path string) (*os.File, error) {
	f, err := securejoin.OpenatInRoot(root, path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s in the rootfs: %w", path, err)
	}
	return f, nil
}

// coverGuestOnly puts an empty read-only tmpfs at dest, with the mount points
// that volumes below it need.
func coverGuestOnly(root *os.File, base, dest string, binds []Bind) error {
	target, err := openInView(root, dest)
	if err != nil || target == nil {
		return err
	}
	defer target.Close()
	tmpfs, err := newTmpfs(treeSize, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer tmpfs.close()
	dir, err := tmpfs.file()
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, b := range binds {
		below, ok := strings.CutPrefix(filepath.Clean(b.Destination), filepath.Clean(dest)+"/")
		if !ok {
			continue
		}
		if err := mountPointFor(dir, below, filepath.Join(base, b.Guest)); err != nil {
			return err
		}
	}
	if err := tmpfs.readOnly(false); err != nil {
		return err
	}
	return tmpfs.attach(target)
}

func bindInView(root *os.File, source string, b Bind) error {
	target, err := openInView(root, b.Destination)
	if err != nil || target == nil {
		return err
	}
	defer target.Close()
	tree, err := cloneTree(source, true)
	if err != nil {
		return err
	}
	defer tree.close()
	dir, err := tree.isDir()
	if err != nil {
		return err
	}
	info, err := target.Stat()
	if err != nil {
		return fmt.Errorf("stat the mount point: %w", err)
	}
	if info.IsDir() != dir {
		return nil
	}
	return tree.attach(target)
}

// moveProc gives the view the tree's /proc, which is of the shim's pid namespace,
// where the rootfs has the directory for one. The tree has none from then on: the
// VMM stays in there.
func moveProc(root *os.File) error {
	target, err := openInView(root, procDir)
	if err != nil {
		return err
	}
	if target == nil {
		err = unix.Unmount(procDir, unix.MNT_DETACH)
	} else {
		defer target.Close()
		err = unix.MoveMount(unix.AT_FDCWD, procDir, int(target.Fd()), "", unix.MOVE_MOUNT_T_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("move /proc into the view: %w", err)
	}
	return os.Remove(procDir)
}

// enterView moves the mount at dir over the namespace's root. Whoever enters
// the namespace with setns(2) lands on what is mounted there last; the
// sandbox's tree stays below it, for the children whose root it is.
func enterView(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("chdir to the view: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the view to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot to the view: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("chdir to the view's root: %w", err)
	}
	return nil
}

// mountPointFor makes the mount point dest under root, a directory or a file
// as source is one.
func mountPointFor(root *os.File, dest, source string) error {
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("stat the volume: %w", err)
	}
	dir := dest
	if !info.IsDir() {
		dir = filepath.Dir(dest)
	}
	parent, err := securejoin.MkdirAllHandle(root, dir, 0o755)
	if err != nil {
		return fmt.Errorf("make the mount point %s: %w", dest, err)
	}
	defer parent.Close()
	if info.IsDir() {
		return nil
	}
	fd, err := unix.Openat(int(parent.Fd()), filepath.Base(dest), unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("make the mount point %s: %w", dest, err)
	}
	return unix.Close(fd)
}
