package sandbox

import (
	"context"

	"runch/hypervisor"
	"runch/hypervisor/cloudhypervisor"
	"runch/hypervisor/qemu"
)

// AttachFunc takes hold of the running VM that a driver has booted for the sandbox
// whose directory is dir. The caller closes it.
type AttachFunc func(ctx context.Context, driver, dir string) (hypervisor.Control, error)

func (r *Runtime) attach(ctx context.Context, driver, dir string) (hypervisor.Control, error) {
	if r.Attach != nil {
		return r.Attach(ctx, driver, dir)
	}
	return attachVM(ctx, driver, dir)
}

// attachVM is the drivers' AttachFunc.
func attachVM(ctx context.Context, driver, dir string) (hypervisor.Control, error) {
	if driver == hypervisor.DriverCloudHypervisor {
		vm, err := cloudhypervisor.Attach(ctx, dir)
		if err != nil {
			return nil, err // a nil *Handle in an interface would not be nil
		}
		return vm, nil
	}
	vm, err := qemu.Attach(ctx, dir)
	if err != nil {
		return nil, err
	}
	return vm, nil
}
