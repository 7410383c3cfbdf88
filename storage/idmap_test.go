package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"runch/oci"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// others maps one user and one group to others.
func others(recursive bool) *oci.IDMap {
	return &oci.IDMap{
		UIDs:      []specs.LinuxIDMapping{{ContainerID: 1000, HostID: 2000, Size: 1}},
		GIDs:      []specs.LinuxIDMapping{{ContainerID: 1001, HostID: 2001, Size: 1}},
		Recursive: recursive,
	}
}

// owned tells whether a file has that owner.
func owned(path string, uid, gid uint32) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Uid != uid || st.Gid != gid {
		return fmt.Errorf("%s belongs to %d:%d, not to %d:%d", path, st.Uid, st.Gid, uid, gid)
	}
	return nil
}

// nobody is the kernel's overflow id, which an owner without a mapping shows as.
const nobody = 65534

// idMapBody shares a volume that has another directory mounted in it, with the
// mount below mapped too and without.
func idMapBody(dir string) error {
	if err := SlaveMounts(); err != nil {
		return err
	}
	volume, other := filepath.Join(dir, "volume"), filepath.Join(dir, "other")
	err := errors.Join(
		os.Mkdir(other, 0o750), os.Mkdir(filepath.Join(volume, "below"), 0o750), unix.Mount(other, filepath.Join(volume, "below"), "", unix.MS_BIND, ""),
		os.WriteFile(filepath.Join(other, "file"), nil, 0o600), os.WriteFile(filepath.Join(volume, "roots"), nil, 0o600),
	)
	// No user can write to a directory whose owner is not mapped.
	for _, path := range []string{volume, other, filepath.Join(volume, "file"), filepath.Join(other, "file")} {
		err = errors.Join(err, os.Chown(path, 1000, 1001))
	}
	if err != nil {
		return err
	}
	t, err := NewTree(filepath.Join(dir, "tree"))
	if err != nil {
		return err
	}
	binds := []oci.Bind{
		{Source: volume, Destination: "/data", GuestSource: "mounts/0/volume", Recursive: true, IDMap: others(false)},
		{Source: volume, Destination: "/ro", GuestSource: "mounts/1/volume", Recursive: true, ReadOnly: true, ReadOnlyBelow: true, IDMap: others(true)},
	}
	if _, err := shareClones(t, dir, binds); err != nil {
		return err
	}
	mounts := filepath.Join(t.Shared(), "id/mounts")
	err = errors.Join(
		owned(filepath.Join(mounts, "0/volume/file"), 2000, 2001), owned(filepath.Join(mounts, "0/volume/roots"), nobody, nobody),
		owned(filepath.Join(mounts, "0/volume/below/file"), 1000, 1001),
		owned(filepath.Join(mounts, "1/volume/file"), 2000, 2001), owned(filepath.Join(mounts, "1/volume/below/file"), 2000, 2001),
		makeAs(filepath.Join(mounts, "0/volume"), "new", 2000, 2001), owned(filepath.Join(volume, "new"), 1000, 1001),
		noChildren(),
	)
	// Root is in no mapping, so it cannot own a new file.
	if e := os.WriteFile(filepath.Join(mounts, "0/volume/mine"), nil, 0o600); !errors.Is(e, unix.EOVERFLOW) {
		err = errors.Join(err, fmt.Errorf("make a file as somebody who is not mapped: %w", e))
	}
	if e := makeAs(filepath.Join(mounts, "1/volume"), "no", 2000, 2001); !errors.Is(e, unix.EROFS) {
		err = errors.Join(err, fmt.Errorf("make a file in a read-only volume: %w", e))
	}
	if err != nil {
		return err
	}
	clones, err := t.Clones("id")
	if err != nil {
		return err
	}
	defer CloseMounts(clones)
	if err := errors.Join(t.Leave(), t.EnterView(clones, View{Binds: binds})); err != nil {
		return err
	}
	return errors.Join(owned("/data/file", 2000, 2001), owned("/data/below/file", 1000, 1001), owned("/ro/below/file", 2000, 2001))
}

// makeAs makes a file as somebody, as virtiofsd does for a process of the guest.
func makeAs(dir, name string, uid, gid int) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has another user now, and ends with the goroutine
		if err := errors.Join(unix.Setfsgid(gid), unix.Setfsuid(uid)); err != nil {
			done <- err
			return
		}
		fd, err := unix.Openat(int(d.Fd()), name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err == nil {
			err = unix.Close(fd)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("make %s in %s: %w", name, dir, err)
	}
	return nil
}

// noChildren checks that the process has no child, not even a zombie.
func noChildren() error {
	pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
	if !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("a child is left: %d, %w", pid, err)
	}
	return nil
}

// refusedIDMapBody tries mappings that the kernel refuses.
func refusedIDMapBody(dir string) error {
	if err := SlaveMounts(); err != nil {
		return err
	}
	ramfs := filepath.Join(dir, "volume")
	if err := unix.Mount("ramfs", ramfs, "ramfs", 0, ""); err != nil {
		return err
	}
	unmade := others(false)
	unmade.UIDs[0].Size = 0
	return errors.Join(
		refused(ramfs, others(false), "failed to set MOUNT_ATTR_IDMAP on "+ramfs+": invalid argument (maybe the filesystem used doesn't support idmap mounts on this kernel?)"),
		refused(ramfs, unmade, "failed to create userns for "+ramfs+" id-mapping: invalid argument"),
		noChildren(),
	)
}

// foreignIDMapBody tries to map a file system that does not belong to this user namespace.
func foreignIDMapBody(dir string) error {
	if err := SlaveMounts(); err != nil {
		return err
	}
	host := filepath.Join(dir, "volume")
	return errors.Join(
		refused(host, others(false), "failed to set MOUNT_ATTR_IDMAP on "+host+": operation not permitted (is it id-mapped already, or a file system that was not mounted in this user namespace?)"),
		noChildren(),
	)
}

func refused(source string, m *oci.IDMap, want string) error {
	tree, err := cloneTree(source, false)
	if err != nil {
		return err
	}
	defer tree.close()
	if err := tree.mapIDs(source, m); err == nil || err.Error() != want {
		return fmt.Errorf("%w, and not: %s", err, want)
	}
	return nil
}

// onIDMappable skips a test where the temporary files are on a file system that is
// known not to support id-mapped mounts. On any other, an error fails the test.
func onIDMappable(t *testing.T) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(os.TempDir(), &st); err != nil {
		t.Fatal(err)
	}
	switch st.Type {
	case unix.OVERLAYFS_SUPER_MAGIC:
		t.Skipf("SKIPPED: %s is on overlayfs, which no kernel id-maps", os.TempDir())
	case unix.V9FS_MAGIC:
		t.Skipf("SKIPPED: %s is on 9p, which no kernel id-maps", os.TempDir())
	}
}

func TestIDMap(t *testing.T) {
	onIDMappable(t)
	inNamespaces(t, "idmap")
}

func TestRefusedIDMap(t *testing.T) { inNamespaces(t, "refused-idmap") }

func TestIDMapInAUserNamespace(t *testing.T) {
	onIDMappable(t)
	all := []syscall.SysProcIDMap{{Size: 1 << 16}}
	inNamespacesOf(t, "foreign-idmap", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
		UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
	})
}
