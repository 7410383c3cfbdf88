package sandbox

import (
	"context"

	"runch/hypervisor"
	"runch/hypervisor/cloudhypervisor"
	"runch/hypervisor/qemu"
)

// newVM prepares a VM with the driver of that name.
func newVM(driver string, cfg *hypervisor.Config) (hypervisor.VMM, error) {
	if driver == hypervisor.DriverCloudHypervisor {
		vm, err := cloudhypervisor.New(cfg)
		if err != nil {
			return nil, err // a nil of the driver's would be no nil
		}
		return vm, nil
	}
	vm, err := qemu.New(cfg)
	if err != nil {
		return nil, err
	}
	return vm, nil
}

// attachVM takes hold of a running VM.
func attachVM(ctx context.Context, driver, dir string) (hypervisor.Control, error) {
	if driver == hypervisor.DriverCloudHypervisor {
		vm, err := cloudhypervisor.Attach(ctx, dir)
		if err != nil {
			return nil, err // as above
		}
		return vm, nil
	}
	vm, err := qemu.Attach(ctx, dir)
	if err != nil {
		return nil, err
	}
	return vm, nil
}
