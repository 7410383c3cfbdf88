package agent

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRunOutsideOfAGuest: the agent leaves a machine alone on which it is not the first
// process. What it mounts there otherwise, it mounts in a namespace of the test's own.
func TestRunOutsideOfAGuest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for a mount namespace")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this function
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
		}
		if err == nil {
			err = Run(t.Context())
		}
		done <- err
	}()
	if err := <-done; !errors.Is(err, errNotInit) {
		t.Error(err)
	}
}
