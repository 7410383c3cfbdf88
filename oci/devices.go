package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

type deviceNumber struct{ major, minor uint32 }

// virtualDevices are the character devices that a Linux kernel provides without
// hardware, with the guest's node for each, which serves a container as the host's
// does under runc. See Documentation/admin-guide/devices.txt.
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

// validateDevices accepts virtualDevices, FIFOs, and numbers that no driver of the
// host serves: open(2) of such a node fails on the host as it does in the guest. Other
// devices of the host are left out where the container may use any device at all:
// the guest's own take their place (see splitDevices). Elsewhere they are refused.
func validateDevices(l *specs.Linux, env *environment) error {
	for i, d := range l.Devices {
		field := index("linux.devices", i)
		if d.Path == "" {
			return fieldErrorf(field+".path", "must not be empty")
		}
		switch d.Type {
		case "p":
			continue
		case "c", "u", "b":
		default:
			return fieldErrorf(field+".type", "invalid device type %q", d.Type)
		}
		if isHostDevice(d, env) && !allowsEveryDevice(l) {
			return fieldErrorf(field, "a device of the host (%s, %s %d:%d) cannot be given to a VM", d.Path, d.Type, d.Major, d.Minor)
		}
	}
	return nil
}

// allowsEveryDevice tells whether the last rule for all devices allows every access to
// them. That is how callers describe a privileged container.
func allowsEveryDevice(l *specs.Linux) bool {
	if l.Resources == nil {
		return false
	}
	every := false
	for _, r := range l.Resources.Devices {
		if (r.Type == "" || r.Type == "a") && isWildcard(r.Major) && isWildcard(r.Minor) {
			every = r.Allow && strings.Contains(r.Access, "r") && strings.Contains(r.Access, "w") && strings.Contains(r.Access, "m")
		}
	}
	return every
}

func isWildcard(n *int64) bool { return n == nil || *n == -1 }

// splitDevices removes the host's devices from the guest's spec and returns their paths.
func splitDevices(guest *specs.Linux, env *environment) (leftOut []string) {
	guest.Devices = slices.DeleteFunc(guest.Devices, func(d specs.LinuxDevice) bool {
		if d.Type == "p" || !isHostDevice(d, env) {
			return false
		}
		leftOut = append(leftOut, d.Path)
		return true
	})
	for i := range guest.Devices {
		if d := &guest.Devices[i]; d.Type == "p" {
			// mknod(2) ignores a FIFO's number, but libcontainer compares it with the node's.
			d.Major, d.Minor = 0, 0
		}
	}
	return leftOut
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

// hasDevice looks for a device in /sys/dev; kind is block or char. Without that
// directory every device counts as present.
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

// validateDeviceRules is runc's check of linux.resources.devices. The guest gets the
// rules as they are: its virtualDevices have the host's numbers, and a rule for a
// device that it lacks has no effect.
func validateDeviceRules(rules []specs.LinuxDeviceCgroup) error {
	for i, rule := range rules {
		field := index("linux.resources.devices", i)
		switch rule.Type {
		case "", "a", "b", "c":
		default:
			return fieldErrorf(field+".type", "invalid cgroup device type %q", rule.Type)
		}
		if rule.Access == "" {
			return fieldErrorf(field+".access", "device access at %d field cannot be empty", i)
		}
		for _, c := range rule.Access {
			// runc ignores other letters in a rule that denies.
			if rule.Allow && c != 'r' && c != 'w' && c != 'm' {
				return fieldErrorf(field+".access", "invalid device permissions %q", rule.Access)
			}
		}
	}
	return nil
}
