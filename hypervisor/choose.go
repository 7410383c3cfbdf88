package hypervisor

import (
	"fmt"
	"strings"
)

// Wishes say which VMM is wanted; empty values are left to Choose.
type Wishes struct {
	// Driver is a driver's name or auto.
	Driver string
	// Accel is an accelerator's name or auto.
	Accel string
	// CloudHypervisor and QEMU are the paths of programs.
	CloudHypervisor, QEMU string
}

// Choice is the VMM to use.
type Choice struct {
	Program
	Accel Accel
	// Why says in a few words what decided.
	Why string
	// Slow says that guests are emulated though nobody asked for that.
	Slow bool
}

// Choose takes cloud-hypervisor where there is one and KVM runs guests, else QEMU
// with KVM, else QEMU with its translator, within what is wished. Where no VMM
// fits the wishes, the error says what is in the way. It starts no process.
func Choose(w Wishes) (*Choice, error) {
	return w.choose(ProbeKVM)
}

// choose has the probe made at most once, and only where it decides something.
func (w Wishes) choose(probe func() error) (*Choice, error) {
	accel := Accel(w.Accel)
	if accel == "" {
		accel = AccelAuto
	}
	if accel != AccelAuto && accel != AccelKVM && accel != AccelTCG {
		return nil, fmt.Errorf("%w: unknown accelerator %q: it is auto, kvm or tcg", ErrConfig, w.Accel)
	}
	switch w.Driver {
	case DriverCloudHypervisor:
		return w.cloudHypervisor(accel, probe)
	case DriverQEMU:
		return w.qemu(accel, probe, nil)
	case DriverAuto, "":
		return w.auto(accel, probe)
	default:
		return nil, fmt.Errorf("%w: unknown hypervisor %q: it is auto, cloud-hypervisor or qemu", ErrConfig, w.Driver)
	}
}

func (w Wishes) cloudHypervisor(accel Accel, probe func() error) (*Choice, error) {
	if accel == AccelTCG {
		return nil, fmt.Errorf("%w: cloud-hypervisor has no accelerator but KVM", ErrConfig)
	}
	p, err := Find(DriverCloudHypervisor, w.CloudHypervisor)
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

// qemu resolves an accelerator of auto; reasons are why it is QEMU.
func (w Wishes) qemu(accel Accel, probe func() error, reasons []string) (*Choice, error) {
	p, err := Find(DriverQEMU, w.QEMU)
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

func (w Wishes) auto(accel Accel, probe func() error) (*Choice, error) {
	if accel == AccelTCG {
		return w.qemu(accel, probe, []string{"only QEMU has the accelerator tcg"})
	}
	p, err := Find(DriverCloudHypervisor, w.CloudHypervisor)
	if err != nil {
		if w.CloudHypervisor != "" {
			return nil, err // one that is named is wanted
		}
		return w.qemu(accel, probe, []string{"there is no cloud-hypervisor"})
	}
	if accel == AccelAuto {
		if err := probe(); err != nil {
			failed := func() error { return err }
			return w.qemu(accel, failed, []string{"cloud-hypervisor needs KVM"})
		}
	}
	return &Choice{Program: *p, Accel: AccelKVM, Why: "it is there, and KVM runs guests"}, nil
}
