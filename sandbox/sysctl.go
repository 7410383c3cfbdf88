package sandbox

import (
	"context"
	"maps"
)

// A pod without a container of its own can have sysctls, too. Its first member makes the
// pod's namespaces in the guest, and sets the sysctls there. Later members leave the
// sysctls alone: a member may have changed them.

// addSysctls gives the container the pod's sysctls where no member has set them.
func (c *creation) addSysctls() {
	pod := c.sandbox.record.Sysctl
	if len(pod) == 0 {
		return
	}
	all := maps.Clone(pod)
	maps.Copy(all, c.spec.Linux.Sysctl)
	c.spec.Linux.Sysctl = all
}

// sysctlsAreSet notes that the container, which is made, has set the pod's sysctls.
func (c *creation) sysctlsAreSet(ctx context.Context) error {
	if len(c.sandbox.record.Sysctl) == 0 {
		return nil
	}
	s, err := c.r.lockSandbox(ctx, c.place.sandbox)
	if err != nil {
		return err
	}
	defer s.Close()
	s.record.Sysctl = nil
	return s.Save(s.record)
}
