package sandbox

import (
	"context"

	"runch/hypervisor"
	"runch/hypervisor/cloudhypervisor"
	"runch/hypervisor/qemu"
)

// AttachFunc gives control over the running VM that a driver has booted for the
// sandbox whose directory is dir. The caller closes it.
type AttachFunc func(ctx context.Context, driver, dir string) (hypervisor.Control, error)

// AttachVM is the AttachFunc of the drivers that there are.
func AttachVM(ctx context.Context, driver, dir string) (hypervisor.Control, error) {
	if driver == hypervisor.DriverCloudHypervisor {
		return cloudhypervisor.Attach(ctx, dir)
	}
	return qemu.Attach(ctx, dir)
}
