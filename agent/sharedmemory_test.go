package agent

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

func TestSharedMemoryGoesWithItsLastContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount")
	}
	dir := t.TempDir()
	s := newSharedMemory(dir)
	one := []*agentproto.SharedMemory{{Name: "1", Size: 1 << 20, Mode: 0o1777, Gid: 5}}
	lasting := []*agentproto.SharedMemory{{Name: "2", Mode: 0o700, Lasts: true}}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "2"), unix.MNT_DETACH) })
	for range 2 {
		if err := s.take(append(one, lasting...)); err != nil {
			t.Fatal(err)
		}
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Statfs(filepath.Join(dir, "1"), &fs); err != nil || int64(fs.Blocks)*fs.Bsize != 1<<20 {
		t.Errorf("the size is %d, %v", int64(fs.Blocks)*fs.Bsize, err)
	}
	if err := unix.Stat(filepath.Join(dir, "1"), &st); err != nil || st.Mode&0o7777 != 0o1777 || st.Gid != 5 {
		t.Errorf("its root has the mode %o and the group %d, %v", st.Mode, st.Gid, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "1/kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.release(append(one, lasting...)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "1/kept")); err != nil {
		t.Errorf("gone with the first of two containers: %v", err)
	}
	if err := s.release(append(one, lasting...)); err != nil {
		t.Error(err)
	}
	if n := mountsBelow(t, filepath.Join(dir, "1")); n != 0 {
		t.Error("still there after the last container")
	}
	if n := mountsBelow(t, filepath.Join(dir, "2")); n != 1 {
		t.Error("what is to last is gone")
	}
}

func TestSharedMemoryThatFailsTakesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount")
	}
	dir := t.TempDir()
	s := newSharedMemory(dir)
	if err := os.WriteFile(filepath.Join(dir, "2"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.take([]*agentproto.SharedMemory{{Name: "1"}, {Name: "2"}}); err == nil {
		t.Error("mounted on a file")
	}
	if n := mountsBelow(t, dir); n != 0 || len(s.users) != 0 {
		t.Errorf("%d mounts are left, %v", n, s.users)
	}
}

func TestCheckMemory(t *testing.T) {
	if err := checkMemory([]*agentproto.SharedMemory{{Name: "0-42", Mode: 0o1777}}); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]*agentproto.SharedMemory{
		"a name that leads out": {{Name: "../shared"}},
		"no name":               {{}},
		"a mode that is none":   {{Name: "1", Mode: 0o10000}},
		"too many":              make([]*agentproto.SharedMemory, maxMemories+1),
	} {
		if err := checkMemory(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
