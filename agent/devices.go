package agent

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/sys/devices"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// addGuestDevices gives a container every device that the guest has, beside those
// that its spec lists itself.
func addGuestDevices(l *specs.Linux) error {
	if err := loadDeviceModules(lazyModules, loadModule); err != nil {
		return err
	}
	if err := addLoopDevices(); err != nil {
		return err
	}
	found, err := devices.HostDevices()
	if err != nil {
		return fmt.Errorf("look for the guest's devices: %w", err)
	}
	listed := make(map[string]bool, len(l.Devices))
	for _, d := range l.Devices {
		listed[path.Clean(d.Path)] = true
	}
	for _, d := range found {
		if listed[d.Path] {
			continue
		}
		l.Devices = append(l.Devices, specs.LinuxDevice{
			Path: d.Path, Type: string(d.Type), Major: d.Major, Minor: d.Minor, FileMode: &d.FileMode, UID: &d.Uid, GID: &d.Gid,
		})
	}
	return nil
}

// loadDeviceModules loads the modules of a list that claim a node in /dev. On other
// systems udev makes these nodes at boot, and opening one loads its module. The guest
// has no such nodes before the modules are loaded.
func loadDeviceModules(list string, load func(path string) error) error {
	paths, err := moduleList(list)
	if err != nil {
		return err
	}
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return fmt.Errorf("look for a module's devices: %w", err)
		}
		if !slices.ContainsFunc(modinfo(data, "alias"), isNodeAlias) {
			continue
		}
		if err := modprobe(list, moduleName(p), load); err != nil {
			return err
		}
	}
	return nil
}

// loopDevices is as many as the loop module of Debian makes when it is loaded.
const loopDevices = 8

// addLoopDevices makes the first loop devices. A kernel that has them built in makes one
// only on demand, and then the container's /dev has been made already.
func addLoopDevices() error {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) { // this kernel has no loop devices
		return nil
	}
	if err != nil {
		return fmt.Errorf("make loop devices: %w", err)
	}
	defer control.Close()
	for number := range loopDevices {
		err := unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_ADD, number)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make loop device %d: %w", number, err)
		}
	}
	return nil
}

// isNodeAlias tells whether an alias claims a node in /dev, as devname:net/tun does.
func isNodeAlias(alias string) bool { return strings.HasPrefix(alias, "devname:") }
