package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"runch/oci"

	securejoin "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// View says what the container looks like from the host.
type View struct {
	// Binds are the container's volumes, in the order of its mounts.
	Binds []oci.Bind
	// Tmpfs are the destinations of file systems that exist only in the
	// guest. The view has an empty read-only tmpfs there, so that a copy to
	// it fails instead of making a file that nobody in the guest sees.
	Tmpfs []string
}

// EnterView assembles the container's view from its rootfs and volumes and makes it
// the `/` of this process, the tree's holder, and of every process that enters its
// mount namespace. Call it after Leave, and after the guest has made the mount points.
func (t *Tree) EnterView(mounts []Mount, v View) error {
	if err := assemble(t.view(), mounts, v); err != nil {
		return err
	}
	if err := t.DropProc(); err != nil {
		return err
	}
	return coverRoot(t.view())
}

// EnterView is Tree.EnterView for a process that holds no tree. The process's mount
// namespace must be a slave copy of the host's (SlaveMounts); nothing of the host's is
// left in it afterwards. dir is any directory in it, to mount the view on.
func EnterView(dir string, mounts []Mount, v View) error {
	if err := assemble(dir, mounts, v); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("chdir to the view: %w", err)
	}
	return pivotHere()
}

// assemble attaches a container's mounts to each other, at dir.
func assemble(dir string, mounts []Mount, v View) error {
	files := make(map[string]*os.File, len(mounts))
	for _, m := range mounts {
		files[m.Path] = m.File
	}
	rootfs := files[RootfsPath]
	if rootfs == nil {
		return errors.New("build the container's view: no rootfs")
	}
	if err := treeOf(rootfs).attachPath(dir); err != nil {
		return err
	}
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the view: %w", err)
	}
	defer root.Close()
	for _, dest := range v.Tmpfs {
		if err := coverGuestOnly(root, files, dest, v.Binds); err != nil {
			return fmt.Errorf("cover %s: %w", dest, err)
		}
	}
	for _, b := range v.Binds {
		if err := bindInView(root, files[b.GuestSource], b); err != nil {
			return fmt.Errorf("bind %s: %w", b.Destination, err)
		}
	}
	return moveProc(root)
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
func coverGuestOnly(root *os.File, files map[string]*os.File, dest string, binds []oci.Bind) error {
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
		if err := mountPointFor(dir, below, files[b.GuestSource]); err != nil {
			return err
		}
	}
	if err := tmpfs.readOnly(false); err != nil {
		return err
	}
	return tmpfs.attach(target)
}

// bindInView attaches a volume if the view has a mount point of the same kind, a
// directory or a file, at its destination.
func bindInView(root, volume *os.File, b oci.Bind) error {
	target, err := openInView(root, b.Destination)
	if err != nil || target == nil {
		return err
	}
	defer target.Close()
	dir, err := isDir(volume)
	if err != nil {
		return err
	}
	targetDir, err := isDir(target)
	if err != nil || targetDir != dir {
		return err
	}
	return treeOf(volume).attach(target)
}

// coverRoot moves the mount at dir over the namespace's root. A process that enters
// the namespace with setns(2) gets the topmost mount there as its root. The sandbox's
// tree stays below it, for the children whose root it is.
func coverRoot(dir string) error {
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

// pivotHere makes the working directory, a mount, the root of the mount namespace
// and detaches the host's root.
func pivotHere() error {
	if err := uncoverRoot(); err != nil {
		return err
	}
	// pivot_root(2) puts the old root on top of the new one, from where it is unmounted.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root to the view: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("chdir to the view's root: %w", err)
	}
	return nil
}

// uncoverRoot detaches the mounts on top of this process's root. After pivot_root(2) they
// would be on top of the old root and be detached in its place, and a process that enters
// the namespace would get the host's files. "/.." is the topmost mount, "/" is not.
func uncoverRoot() error {
	for {
		root, err := mountAt("/")
		if err != nil {
			return err
		}
		top, err := mountAt("/..")
		if err != nil || top == root {
			return err
		}
		if err := unix.Unmount("/..", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("let go of what covers the host's root: %w", err)
		}
	}
}

// mountAt is the id of the mount that a path is on, as in /proc/PID/mountinfo.
func mountAt(path string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return 0, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Mnt_id, nil
}

// mountPointFor makes the mount point dest under root: a directory or a file, like
// the volume. It may exist already, for an earlier volume at the same destination,
// which this one covers.
func mountPointFor(root *os.File, dest string, volume *os.File) error {
	isDir, err := isDir(volume)
	if err != nil {
		return err
	}
	dir := dest
	if !isDir {
		dir = filepath.Dir(dest)
	}
	parent, err := securejoin.MkdirAllHandle(root, dir, 0o755)
	if err != nil {
		return fmt.Errorf("make the mount point %s: %w", dest, err)
	}
	defer parent.Close()
	if isDir {
		return nil
	}
	fd, err := unix.Openat(int(parent.Fd()), filepath.Base(dest), unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("make the mount point %s: %w", dest, err)
	}
	return unix.Close(fd)
}
