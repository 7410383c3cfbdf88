package agent

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// sameDevice tells whether two paths are in one file system. Each tmpfs of a test stands
// for the file system that the kernel makes for a directory of the host.
func sameDevice(t *testing.T, a, b string) bool {
	t.Helper()
	var one, other unix.Stat_t
	if err := unix.Stat(a, &one); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(b, &other); err != nil {
		t.Fatal(err)
	}
	return one.Dev == other.Dev
}

func TestContainersWithTheSameDirectoryUseOneFileSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount")
	}
	dir := t.TempDir()
	s := newVolumes(dir)
	join := func(share string, readOnly bool) string {
		t.Helper()
		path := filepath.Join(share, "mounts/0/data")
		tmpfs(t, filepath.Join(dir, path))
		t.Cleanup(func() { _ = unmountBelow(dir, share) })
		err := s.join(share, []*agentproto.Volume{{Path: path, Identity: "8:1:42", ReadOnly: readOnly}})
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, path)
	}
	reads := join("reads", true)
	writes := join("writes", false)
	if sameDevice(t, reads, writes) {
		t.Error("who writes has a file system that the host does not let him write to")
	}
	also := join("also", false)
	later := join("later", true)
	if !sameDevice(t, also, writes) || !sameDevice(t, later, reads) {
		t.Error("containers with the same directory have different file systems")
	}
	// After the first has gone, the others still have the file system, and a later one joins it.
	s.leave("writes")
	if err := unmountBelow(dir, "writes"); err != nil {
		t.Fatal(err)
	}
	if third := join("third", false); !sameDevice(t, third, also) {
		t.Error("who comes after the first has gone has another file system")
	}
	for _, share := range []string{"reads", "also", "later", "third"} {
		s.leave(share)
	}
	if len(s.live) != 0 {
		t.Errorf("left are %v", s.live)
	}
}

func TestCheckVolumes(t *testing.T) {
	if err := checkVolumes("a", []*agentproto.Volume{{Path: "a/mounts/0/x"}}); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"", "a", "b/mounts/0/x", "a/../b/x", "/a/x", "../a/x"} {
		if err := checkVolumes("a", []*agentproto.Volume{{Path: path}}); err == nil {
			t.Errorf("%q is taken", path)
		}
	}
}
