package sandbox

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestEndIsLeftToTheCaller has a shim that ends while its command still lives:
// whoever the command's children come to has to find its end.
func TestEndIsLeftToTheCaller(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "exit 7")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitZombie(cmd.Process.Pid)
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil || status.ExitStatus() != 7 {
		t.Errorf("got %v, %v", status, err)
	}
	_ = cmd.Wait() // it says that it was reaped
}
