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

// As a user's podman runs it: whoever leaves the host's network namespace does
// not get back, so the thread that went is given up. What it saw counts all the
// same, and the process is where it was.
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
	// The thread is drawn by lot, and the first of the process has to be drawn. Were
	// that one spent, the next time would be refused as the host's namespace.
	for range 50 {
		if _, _, err := Scan(within(t), path); err != nil {
			t.Fatal(err)
		}
	}
}
