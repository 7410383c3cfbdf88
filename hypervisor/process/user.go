package process

import (
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"runch/hypervisor"
)

// kvmDevice is what a VMM opens by itself.
const kvmDevice = "/dev/kvm"

// UserFor gives the identity that a VMM can run as: the wanted one, in the group
// of the device if that opens it, or nil, the caller's own, where the device is
// open to root alone.
func UserFor(user *syscall.Credential, accel hypervisor.Accel) *syscall.Credential {
	if user == nil || accel != hypervisor.AccelKVM {
		return user
	}
	info, err := os.Stat(kvmDevice)
	if err != nil {
		return user
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return user
	}
	const readWrite = unix.S_IROTH | unix.S_IWOTH
	switch {
	case stat.Uid == user.Uid, stat.Mode&readWrite == readWrite:
		return user
	case stat.Mode>>3&readWrite == readWrite:
		with := *user
		if with.Gid != stat.Gid && !slices.Contains(with.Groups, stat.Gid) {
			with.Groups = append(slices.Clone(with.Groups), stat.Gid)
		}
		return &with
	default:
		return nil
	}
}
