package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// delegatable lists the files of a cgroup that its new owner gets; see cgroups(7),
// "Cgroups delegation: delegating a hierarchy to a less privileged user".
const delegatable = "/sys/kernel/cgroup/delegate"

// delegate gives a cgroup to the user uid of the guest, as runc does with cgroups
// that systemd has made: a container that has a cgroup namespace and may write
// there makes its own cgroups below.
func delegate(cgroup string, uid int) error {
	list, err := os.ReadFile(delegatable)
	if err != nil {
		return fmt.Errorf("delegate the container's cgroup: %w", err)
	}
	if err := os.Chown(cgroup, uid, -1); err != nil {
		return fmt.Errorf("delegate the container's cgroup: %w", err)
	}
	for name := range bytes.FieldsSeq(list) {
		// Not every cgroup has every file.
		err := os.Chown(filepath.Join(cgroup, string(name)), uid, -1)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("delegate the container's cgroup: %w", err)
		}
	}
	return nil
}
