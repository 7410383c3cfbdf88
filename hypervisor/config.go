package hypervisor

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"

	"runch/transport"
)

// Config describes a VM.
type Config struct {
	// Name is the sandbox's id, for process lists and messages.
	Name string
	// Binary is the VMM's program, an absolute path.
	Binary string
	// Accel is what runs the guest's instructions.
	Accel Accel

	// Kernel and Initramfs are files of the host. They need not be readable by
	// User: the driver opens them itself.
	Kernel, Initramfs string
	// Cmdline holds parameters of the guest's kernel. The driver puts its own for the
	// console and tuning before them, and those from Announce.
	Cmdline []string
	// Announce returns the kernel parameters that tell the guest how it reaches the
	// host. The driver calls it at most once, in Boot. If it is nil, the guest is told
	// nothing.
	Announce func(transport.Guest) []string
	// SerialPort is the name of the virtio-serial port that a guest without a vsock
	// gets.
	SerialPort string

	// CPUs is the number of virtual CPUs; 0 means 1. MaxCPUs is how many there
	// may be after hot-plug; 0 means CPUs.
	CPUs, MaxCPUs int
	// MemoryMiB is the guest's memory, MaxMemoryMiB how much there may be after
	// Resize: a multiple of HotplugStepMiB more; 0 means MemoryMiB.
	MemoryMiB, MaxMemoryMiB int
	// HotplugSlots is the number of devices that can be added while the guest
	// runs, at least.
	HotplugSlots int

	// Share is the directory served by virtiofs, nil for none.
	Share *Share
	// NICs and Disks are there when the guest boots.
	NICs  []NIC
	Disks []Disk

	// Restore is a directory that Saver.Snapshot has written (see Disk.Path). The
	// VM continues from there instead of booting, with the devices that it had. NICs
	// has the taps for its interfaces.
	Restore string

	// Templates is a directory for templates: guests that were saved before they said their
	// hello. A later VM of the same kind goes on from there instead of booting. The driver makes
	// the directory and the templates; it boots the VM where it can have none. Empty means that
	// every VM boots.
	Templates string

	// Dir is the sandbox's private directory on the host, for the driver's sockets.
	// Other users cannot access it.
	Dir string
	// Log gets what the VMM writes to its standard output and error, line by line;
	// nil drops it.
	Log io.Writer
	// Console gets what the guest writes to its console; nil drops it. A guest blocks
	// when its console is not read, so the driver reads on if Console fails. Console
	// itself has to bound what it keeps.
	Console io.Writer
	// Served, when not nil, is called each time that this process has finished relaying a
	// connection between another process and the guest.
	Served func()
	// User is the user that the VMM runs as; nil means the caller's own identity.
	User *syscall.Credential
}

// RunDir returns the VMM's working directory in a sandbox's directory dir. New makes it.
// While the VM boots, Config.User may be able to write to it; afterwards only the caller is.
func RunDir(dir string) string { return filepath.Join(dir, "vmm") }

// InRunDir returns the absolute path for one that is relative to the VMM's working
// directory. An absolute path stays as it is.
func InRunDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(RunDir(dir), path)
}

// Accel is what runs the guest's instructions.
type Accel string

// The accelerators.
const (
	// AccelAuto lets Choose pick one of the others. It is not valid in a Config.
	AccelAuto Accel = "auto"
	// AccelKVM runs them on the processor, by the host's KVM.
	AccelKVM Accel = "kvm"
	// AccelTCG is QEMU's translator, which needs no support by the host.
	AccelTCG Accel = "tcg"
)

// maxCmdline is COMMAND_LINE_SIZE of the Linux kernel on x86, less the final zero.
const maxCmdline = 2047

// driverCmdline is the part of maxCmdline that is kept for the parameters of the driver
// and of Announce, which need less.
const driverCmdline = 512

// HotplugStepMiB is the unit in which memory is added, in MiB: the size of a memory block
// of Linux on x86. The guest's kernel accepts or refuses a block as a whole.
const HotplugStepMiB = 128

// minMemoryMiB is a lower bound: every distribution's kernel needs more to boot.
const minMemoryMiB = 48

// Validate returns an error that wraps ErrConfig and names the invalid value, or nil. It
// opens no file.
func (c *Config) Validate() error {
	switch {
	case c.Binary == "" || !filepath.IsAbs(c.Binary):
		return c.invalid("the VMM's program %q is not an absolute path", c.Binary)
	case c.Kernel == "":
		return c.invalid("no kernel")
	case c.Dir == "" || !filepath.IsAbs(c.Dir):
		return c.invalid("directory %q is not an absolute path", c.Dir)
	case c.Templates != "" && !filepath.IsAbs(c.Templates):
		return c.invalid("the templates' directory %q is not an absolute path", c.Templates)
	case c.Accel != AccelKVM && c.Accel != AccelTCG:
		return c.invalid("unknown accelerator %q: it is kvm or tcg", c.Accel)
	case c.CPUs < 0 || c.MaxCPUs < 0 || c.CPUs > 255 || c.MaxCPUs > 255:
		return c.invalid("%d of at most %d CPUs", c.CPUs, c.MaxCPUs)
	case c.MaxCPUs != 0 && c.MaxCPUs < c.CPUs:
		return c.invalid("%d CPUs, but at most %d", c.CPUs, c.MaxCPUs)
	case c.MemoryMiB < minMemoryMiB:
		return c.invalid("%d MiB of memory; a kernel needs %d", c.MemoryMiB, minMemoryMiB)
	case c.MaxMemoryMiB != 0 && (c.MaxMemoryMiB < c.MemoryMiB || (c.MaxMemoryMiB-c.MemoryMiB)%HotplugStepMiB != 0):
		return c.invalid("%d MiB of memory and at most %d: the difference is not a multiple of %d", c.MemoryMiB, c.MaxMemoryMiB, HotplugStepMiB)
	case !identifier(c.SerialPort):
		return c.invalid("the serial port %q", c.SerialPort)
	case c.HotplugSlots < 0 || c.HotplugSlots > 16:
		return c.invalid("%d hot-plug slots; there are 0 to 16", c.HotplugSlots)
	}
	for _, param := range c.Cmdline {
		if param == "" || strings.ContainsAny(param, "\n\x00") {
			return c.invalid("kernel parameter %q", param)
		}
	}
	if n := len(strings.Join(c.Cmdline, " ")); n > maxCmdline-driverCmdline {
		return c.invalid("%d bytes of kernel parameters", n)
	}
	return c.validateDevices()
}

func (c *Config) validateDevices() error {
	seen := make(map[string]bool)
	use := func(id string) error {
		if seen[id] {
			return c.invalid("two devices are called %s", id)
		}
		seen[id] = true
		return nil
	}
	var errs []error
	if c.Share != nil {
		errs = append(errs, c.Share.Validate(), use(c.Share.Tag))
	}
	for _, nic := range c.NICs {
		errs = append(errs, nic.Validate(), use(nic.ID))
	}
	for _, disk := range c.Disks {
		errs = append(errs, disk.Validate(), use(disk.ID))
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Announced returns the kernel parameters from Announce, none if that is nil.
func (c *Config) Announced(guest transport.Guest) []string {
	if c.Announce == nil {
		return nil
	}
	return c.Announce(guest)
}

func (c *Config) invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}
