package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A thread that stayed behind in the containers' namespace would be no matter,
// but for the process's first one: /proc/self tells of it, libcontainer takes
// what is there for the agent's own namespace, and Go never ends it.
func TestMakingTheNetNSLeavesTheAgentInItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range 200 { // which thread it runs on is chance
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := makeNetNS(path); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		now, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		if now != own {
			t.Fatalf("the process's first thread is in %s, not in %s, after %d", now, own, i)
		}
	}
}
