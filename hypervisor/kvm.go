package hypervisor

import (
	"errors"
	"fmt"
)

// ErrNoKVM is wrapped by the errors of ProbeKVM.
var ErrNoKVM = errors.New("KVM cannot be used")

// ResolveAccel gives the accelerator to use for a configured one: auto is KVM where
// ProbeKVM finds that it runs guests, else TCG.
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
