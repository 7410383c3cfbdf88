package hypervisor

import (
	"fmt"
	"strings"
)

// Options say which VMM to use. Choose decides about those that are empty.
type Options struct {
	// Driver is a driver's name or auto.
	Driver string
	// Accel is an accelerator's name or auto.
	Accel string
	// CloudHypervisor and QEMU are the paths of the programs. Choose looks for one whose
	// path is empty.
	CloudHypervisor, QEMU string
}

// Choice is the VMM to use.
type Choice struct {
	Program
	Accel Accel
	// Why is the reason for the choice, for a message.
	Why string
	// Slow says that guests are emulated though the options do not demand it.
	Slow bool
}

// Choose returns the first of these that the options allow and this host can run:
// cloud-hypervisor with KVM, QEMU with KVM, QEMU with its translator. If there is none,
// the error says why. Choose starts no process.
func Choose(o Options) (*Choice, error) {
	c, err := o.choose(ProbeKVM)
	if err == nil && Accel(o.Accel) == AccelKVM {
		err = accessKVM()
	}
	if err != nil {
		return nil, withRemedy(err)
	}
	return c, nil
}

// choose calls probe at most once, and only if the choice depends on it.
func (o Options) choose(probe func() error) (*Choice, error) {
	accel := Accel(o.Accel)
	if accel == "" {
		accel = AccelAuto
	}
	if accel != AccelAuto && accel != AccelKVM && accel != AccelTCG {
		return nil, fmt.Errorf("%w: unknown accelerator %q: it is auto, kvm or tcg", ErrConfig, o.Accel)
	}
	switch o.Driver {
	case DriverCloudHypervisor:
		return o.cloudHypervisor(accel, probe)
	case DriverQEMU:
		return o.qemu(accel, probe, nil)
	case DriverAuto, "":
		return o.auto(accel, probe)
	default:
		return nil, fmt.Errorf("%w: unknown hypervisor %q: it is auto, cloud-hypervisor or qemu", ErrConfig, o.Driver)
	}
}

func (o Options) cloudHypervisor(accel Accel, probe func() error) (*Choice, error) {
	if accel == AccelTCG {
		return nil, fmt.Errorf("%w: cloud-hypervisor has no accelerator but KVM", ErrConfig)
	}
	p, err := Find(DriverCloudHypervisor, o.CloudHypervisor)
	if err != nil {
		return nil, err
	}
	if accel == AccelAuto {
		if err := probe(); err != nil {
			return nil, fmt.Errorf("cloud-hypervisor: %w", err)
		}
	}
	return &Choice{Program: *p, Accel: AccelKVM, Why: "the configuration asks for it"}, nil
}

// qemu chooses QEMU, and replaces the accelerator auto. reasons say why it is QEMU.
func (o Options) qemu(accel Accel, probe func() error, reasons []string) (*Choice, error) {
	p, err := Find(DriverQEMU, o.QEMU)
	if err != nil {
		return nil, err
	}
	if len(reasons) == 0 {
		reasons = []string{"the configuration asks for it"}
	}
	c := &Choice{Program: *p, Accel: accel}
	if accel == AccelAuto {
		c.Accel = AccelKVM
		if err := probe(); err != nil {
			c.Accel, c.Slow = AccelTCG, true
			reasons = append(reasons, err.Error())
		}
	}
	c.Why = strings.Join(reasons, "; ")
	return c, nil
}

func (o Options) auto(accel Accel, probe func() error) (*Choice, error) {
	if accel == AccelTCG {
		return o.qemu(accel, probe, []string{"only QEMU has the accelerator tcg"})
	}
	p, err := Find(DriverCloudHypervisor, o.CloudHypervisor)
	if err != nil {
		if o.CloudHypervisor != "" {
			return nil, err // a configured program has to exist
		}
		return o.qemu(accel, probe, []string{"there is no cloud-hypervisor"})
	}
	if accel == AccelAuto {
		if err := probe(); err != nil {
			failed := func() error { return err }
			return o.qemu(accel, failed, []string{"cloud-hypervisor needs KVM"})
		}
	}
	return &Choice{Program: *p, Accel: AccelKVM, Why: "it is there, and KVM runs guests"}, nil
}
