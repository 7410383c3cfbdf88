package shim

import (
	"runch/hypervisor"
	"runch/hypervisor/cloudhypervisor"
	"runch/hypervisor/qemu"
)

// NewVMFunc prepares a VM with the driver of that name.
type NewVMFunc func(driver string, cfg *hypervisor.Config) (hypervisor.VMM, error)

// NewVM is the NewVMFunc of the drivers that there are.
func NewVM(driver string, cfg *hypervisor.Config) (hypervisor.VMM, error) {
	if driver == hypervisor.DriverCloudHypervisor {
		vm, err := cloudhypervisor.New(cfg)
		if err != nil {
			return nil, err // a nil *VM in an interface would not be nil
		}
		return vm, nil
	}
	vm, err := qemu.New(cfg)
	if err != nil {
		return nil, err
	}
	return vm, nil
}
