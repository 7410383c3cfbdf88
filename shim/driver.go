package shim

import (
	"runch/hypervisor"
	"runch/hypervisor/cloudhypervisor"
	"runch/hypervisor/qemu"
)

// NewVMFunc prepares a VM with the driver of that name.
type NewVMFunc func(driver string, cfg *hypervisor.Config) (hypervisor.VM, error)

// NewVM is the NewVMFunc of the drivers that there are.
func NewVM(driver string, cfg *hypervisor.Config) (hypervisor.VM, error) {
	if driver == hypervisor.DriverCloudHypervisor {
		return cloudhypervisor.New(cfg)
	}
	return qemu.New(cfg)
}
