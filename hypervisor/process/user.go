package process

import (
	"os"
	"slices"
	"syscall"

	idmap "github.com/moby/sys/user"
	"github.com/moby/sys/userns"
	"golang.org/x/sys/unix"

	"runch/hypervisor"
)

// kvmDevice is a device that a VMM opens itself.
const kvmDevice = "/dev/kvm"

// overflowID is the owner or group that stat(2) shows for a file whose own is not mapped
// into the user namespace, see user_namespaces(7).
const overflowID = 65534

// UserFor returns the identity for a VMM to run as. This is user, with the group of /dev/kvm
// added if user can open the device only that way. It is nil, the caller's own identity, if
// user cannot open the device at all.
//
// A process can only have ids that are mapped into this user namespace. So the result is
// also nil for a user that is not mapped, as when the caller has no subordinate ids, and a
// group of the device that is not mapped is not added.
func UserFor(user *syscall.Credential, accel hypervisor.Accel) *syscall.Credential {
	if user == nil || !mapped(user.Uid, idmap.CurrentProcessUIDMap) || !mapped(user.Gid, idmap.CurrentProcessGIDMap) {
		return nil
	}
	if accel != hypervisor.AccelKVM {
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

// mapped reports whether id is mapped into this user namespace, whose map read returns. If
// the map cannot be read, it returns true.
func mapped(id uint32, read func() ([]idmap.IDMap, error)) bool {
	ids, err := read()
	return err != nil || slices.ContainsFunc(ids, func(m idmap.IDMap) bool {
		return int64(id) >= m.ID && int64(id) < m.ID+m.Count
	})
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
