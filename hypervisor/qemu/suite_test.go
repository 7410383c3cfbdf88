package qemu_test

import (
	"testing"

	"runch/hypervisor"
	"runch/hypervisor/qemu"
	"runch/hypervisor/vmmtest"
)

func TestSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("boots VMs, which make e2e-drivers does")
	}
	choice, err := hypervisor.Choose(hypervisor.Options{Driver: hypervisor.DriverQEMU})
	if err != nil {
		t.Skip(err)
	}
	vmmtest.Run(t, vmmtest.Driver{
		Program: choice.Path,
		Accel:   choice.Accel,
		New:     qemu.New,
	})
}
