package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// tmpfs mounts one, with the directories in it, and takes it away with the test.
func tmpfs(t *testing.T, path string, dirs ...string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("test", path, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(path, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// mountsBelow counts the mounts at and below dir.
func mountsBelow(t *testing.T, dir string) int {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	return len(mounts)
}

func TestContainersMountsGoWithIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount")
	}
	dir := t.TempDir()
	tmpfs(t, filepath.Join(dir, "a/rootfs"), "proc", "with a space")
	tmpfs(t, filepath.Join(dir, "a/rootfs/with a space"))
	tmpfs(t, filepath.Join(dir, "a/rootfs")) // over the other
	tmpfs(t, filepath.Join(dir, "a/mounts/0/x"))
	tmpfs(t, filepath.Join(dir, "ab/rootfs")) // another container's
	if err := unmountBelow(dir, "a"); err != nil {
		t.Error(err)
	}
	if n := mountsBelow(t, filepath.Join(dir, "a")); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	if mountsBelow(t, filepath.Join(dir, "ab")) != 1 {
		t.Error("another container's mount is gone as well")
	}
	if err := unmountBelow(dir, "nothing"); err != nil {
		t.Errorf("nothing to unmount: %v", err)
	}
}

// A symbolic link that a container made must not lead the agent to mounts elsewhere.
func TestUnmountFollowsNoLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount")
	}
	dir := t.TempDir()
	tmpfs(t, filepath.Join(dir, "elsewhere/proc"))
	if err := os.Symlink("../elsewhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "share"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "share/link")); err != nil {
		t.Fatal(err)
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(root) }()
	for _, path := range []string{"share/link/proc", "link/proc", "../x"} {
		if err := unmountAt(root, dir, filepath.Join(dir, path)); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	if mountsBelow(t, dir) != 1 {
		t.Error("a mount elsewhere is gone")
	}
	if err := unmountAt(root, dir, filepath.Join(dir, "gone")); err != nil {
		t.Errorf("gone already: %v", err)
	}
}
