package shim

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/opencontainers/selinux/go-selinux"
)

// labelled calls start so that the processes which it starts on its thread get the SELinux
// label (process.selinuxLabel): it confines the VMM and virtiofsd, which stand between the
// guest and the host. Without a label nothing is changed.
func labelled(label string, start func() error) error {
	if label == "" {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := selinux.SetExecLabel(label); err != nil {
		return fmt.Errorf("set the SELinux label %s: %w", label, err)
	}
	return errors.Join(start(), selinux.SetExecLabel(""))
}
