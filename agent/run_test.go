package agent

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRunOutsideOfAGuest: the agent changes nothing on a machine where it is not PID 1. The
// mount namespace protects the machine if the agent mounts something all the same.
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
