package network

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// inUserNS tells the test's second run that it is in a user namespace.
const inUserNS = "RUNCH_NETWORK_TEST_USERNS"

// TestScanFromAUserNamespace: rootless podman runs runch in a user namespace. A thread that
// leaves the host's network namespace there cannot return, so namespace.Do ends it. The scan
// still succeeds, and the process stays in its namespace.
func TestScanFromAUserNamespace(t *testing.T) {
	needRoot(t)
	if os.Getenv(inUserNS) == "" {
		all := []syscall.SysProcIDMap{{Size: 1 << 16}}
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inUserNS+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	other := exec.CommandContext(context.Background(), "sleep", "300") // t.Context ends before Cleanup
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	path := filepath.Join("/proc", strconv.Itoa(other.Process.Pid), "ns/net")
	// Go picks the thread, and at least one of the calls has to begin on the process's
	// first one. If that one had moved, /proc/self would show the other namespace, and the
	// next Scan would refuse it as the host's.
	for range 50 {
		if _, _, err := Scan(within(t), path); err != nil {
			t.Fatal(err)
		}
	}
}
