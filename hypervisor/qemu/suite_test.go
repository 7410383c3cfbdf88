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
	program, err := hypervisor.Find(hypervisor.DriverQEMU, "")
	if err != nil {
		t.Skip(err)
	}
	accel, err := hypervisor.ResolveAccel("")
	if err != nil {
		t.Fatal(err)
	}
	vmmtest.Run(t, vmmtest.Driver{
		Program: program.Path,
		Accel:   accel,
		New:     qemu.New,
		Attach:  qemu.Attach,
	})
}
