package process

import (
	"os"
	"slices"
	"syscall"

	"github.com/moby/sys/userns"
	"golang.org/x/sys/unix"

	"runch/hypervisor"
)

// kvmDevice is what a VMM opens by itself.
const kvmDevice = "/dev/kvm"

// overflowID is whom a file shows as its owner where that one has no name in the
// user namespace, see user_namespaces(7).
const overflowID = 65534

// UserFor gives the identity that a VMM can run as: the wanted one, in the group
// of the device if that opens it, or nil, the caller's own, where the device is
// open to root alone. In a user namespace that does not know the device's group
// only whoever is in it already has it: the caller, who is nobody outside.
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
	return userFor(user, stat, userns.RunningInUserNS())
}

func userFor(user *syscall.Credential, device *syscall.Stat_t, inUserNS bool) *syscall.Credential {
	const readWrite = unix.S_IROTH | unix.S_IWOTH
	known := func(id uint32) bool { return !inUserNS || id != overflowID }
	switch {
	case device.Mode&readWrite == readWrite, device.Uid == user.Uid && known(device.Uid):
		return user
	case device.Mode>>3&readWrite == readWrite && known(device.Gid):
		with := *user
		if with.Gid != device.Gid && !slices.Contains(with.Groups, device.Gid) {
			with.Groups = append(slices.Clone(with.Groups), device.Gid)
		}
		return &with
	default:
		return nil
	}
}
