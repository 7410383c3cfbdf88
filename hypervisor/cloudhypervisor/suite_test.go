package cloudhypervisor_test

import (
	"os"
	"testing"

	"runch/hypervisor"
	"runch/hypervisor/cloudhypervisor"
	"runch/hypervisor/vmmtest"
)

func TestSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("boots VMs, which make e2e-drivers does")
	}
	program, err := hypervisor.Find(hypervisor.DriverCloudHypervisor, os.Getenv("RUNCH_CLOUD_HYPERVISOR"))
	if err != nil {
		t.Skipf("no cloud-hypervisor, so the real one is not tested: %v", err)
	}
	if err := hypervisor.ProbeKVM(); err != nil {
		t.Skipf("no VM of cloud-hypervisor is tested: %v", err)
	}
	vmmtest.Run(t, vmmtest.Driver{
		Program: program.Path,
		Accel:   hypervisor.AccelKVM,
		New:     cloudhypervisor.New,
	})
}
