package hypervisor

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// kvmDevice is the device of KVM.
const kvmDevice = "/dev/kvm"

// ErrNoKVM is wrapped by the errors of ProbeKVM.
var ErrNoKVM = errors.New("KVM cannot be used")

// openKVM opens KVM's device for this user.
func openKVM() (int, error) {
	device, err := unix.Open(kvmDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", kvmDevice, err)
	}
	return device, nil
}

// accessKVM checks that this user may open KVM's device. It is for a configuration that
// demands KVM, for which Choose does not call ProbeKVM. The error wraps ErrNoKVM.
func accessKVM() error {
	device, err := openKVM()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoKVM, err)
	}
	_ = unix.Close(device) // nothing was done with it
	return nil
}

// withRemedy adds advice to an error that wraps ErrNoKVM, if there is any for it.
func withRemedy(err error) error {
	switch {
	case !errors.Is(err, ErrNoKVM):
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: it is for the group kvm: `adduser USER kvm` as root, then log in again", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: load its module, `modprobe kvm_intel` or `modprobe kvm_amd` as root, with virtualization switched on in the firmware", err)
	}
	return err
}
