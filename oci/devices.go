package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

type deviceNumber struct{ major, minor uint32 }

// virtualDevices are the character devices that every Linux kernel has of
// itself, with the guest's nodes: there is no difference between the host's and
// the guest's but the kernel. See Documentation/admin-guide/devices.txt.
var virtualDevices = map[deviceNumber]string{
	{1, 3}:    "/dev/null",
	{1, 5}:    "/dev/zero",
	{1, 7}:    "/dev/full",
	{1, 8}:    "/dev/random",
	{1, 9}:    "/dev/urandom",
	{1, 11}:   "/dev/kmsg",
	{5, 0}:    "/dev/tty",
	{5, 1}:    "/dev/console",
	{5, 2}:    "/dev/ptmx",
	{10, 200}: "/dev/net/tun",
	{10, 229}: "/dev/fuse",
}

// validateDevices lets through the devices that the guest has of itself, FIFOs,
// and numbers that no driver of the host's serves: those are nodes and nothing
// more, here and there.
func validateDevices(l *specs.Linux, env *environment) error {
	for i, d := range l.Devices {
		field := index("linux.devices", i)
		if d.Path == "" {
			return bad(field+".path", "must not be empty")
		}
		switch d.Type {
		case "p":
			continue
		case "c", "u", "b":
		default:
			return bad(field+".type", "invalid device type %q", d.Type)
		}
		if isHostDevice(d, env) {
			return bad(field, "a device of the host (%s, %s %d:%d) cannot be given to a VM", d.Path, d.Type, d.Major, d.Minor)
		}
	}
	return nil
}

func isHostDevice(d specs.LinuxDevice, env *environment) bool {
	if d.Major < 0 || d.Major > maxMajor || d.Minor < 0 || d.Minor > maxMinor {
		return true
	}
	n := deviceNumber{uint32(d.Major), uint32(d.Minor)}
	if d.Type == "b" {
		return env.hasDevice("block", n)
	}
	_, ok := virtualDevices[n]
	return !ok && env.hasDevice("char", n)
}

// hasDevice asks the kernel's list of devices, block or char. Without the list
// every device is taken to be there.
func hasDevice(kind string, n deviceNumber) bool {
	dir := filepath.Join("/sys/dev", kind)
	if _, err := os.Stat(dir); err != nil {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%d:%d", n.major, n.minor)))
	return !errors.Is(err, fs.ErrNotExist)
}

// The kernel's limits for device numbers.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// validateDeviceRules is runc's check of linux.resources.devices. The rules go
// to the guest as they are: they speak of the numbers of devices there, and
// those of a device that is not there harm nobody.
func validateDeviceRules(rules []specs.LinuxDeviceCgroup) error {
	for i, rule := range rules {
		field := index("linux.resources.devices", i)
		switch rule.Type {
		case "", "a", "b", "c":
		default:
			return bad(field+".type", "invalid cgroup device type %q", rule.Type)
		}
		if rule.Access == "" {
			return bad(field+".access", "device access at %d field cannot be empty", i)
		}
		for _, c := range rule.Access {
			// In a rule that denies, runc pays no heed to other letters.
			if rule.Allow && c != 'r' && c != 'w' && c != 'm' {
				return bad(field+".access", "invalid device permissions %q", rule.Access)
			}
		}
	}
	return nil
}
