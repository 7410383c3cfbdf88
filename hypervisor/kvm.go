package hypervisor

import (
	"errors"
	"fmt"
)

// ErrNoKVM is wrapped by ProbeKVM's refusals.
var ErrNoKVM = errors.New("KVM cannot be used")

// ResolveAccel turns a configured accelerator into the one to use: auto is KVM
// where ProbeKVM says that it runs guests, else TCG.
func ResolveAccel(name string) (Accel, error) {
	switch a := Accel(name); a {
	case AccelKVM, AccelTCG:
		return a, nil
	case AccelAuto, "":
		if ProbeKVM() == nil {
			return AccelKVM, nil
		}
		return AccelTCG, nil
	default:
		return "", fmt.Errorf("%w: unknown accelerator %q: it is auto, kvm or tcg", ErrConfig, name)
	}
}
