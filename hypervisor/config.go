package hypervisor

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"runch/transport"
)

// Config is what a VM shall be.
type Config struct {
	// Name is the sandbox's id, for process lists and messages.
	Name string
	// Binary is the VMM's program, an absolute path.
	Binary string
	// Accel says who runs the guest's instructions.
	Accel Accel

	// Kernel and Initramfs are files of the host. They need not be readable by
	// User: the driver opens them itself.
	Kernel, Initramfs string
	// Cmdline holds parameters of the guest's kernel; the driver puts its own for
	// the console and tuning before them, and what Announce gives.
	Cmdline []string
	// Announce gives the kernel parameters that tell the guest how it reaches the
	// host. The driver calls it once, when Listen can be called no more; nil tells
	// the guest nothing.
	Announce func(transport.Guest) []string
	// SerialPort is the name of the virtio-serial port that the guest has where it
	// has no vsock.
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

	// Restore is a directory that Control.Snapshot has written (see Disk.Path);
	// the VM goes on from there, instead of booting, with the devices that it had.
	// NICs then give their taps.
	Restore string

	// Dir is the sandbox's private directory on the host. The driver's sockets
	// are in it; nobody else can look into it.
	Dir string
	// Log gets what the VMM writes to its standard error, line by line; nil
	// drops it.
	Log io.Writer
	// Console gets what the guest writes to its console. The driver drains the
	// console as long as the VM lives, whatever Console answers; to bound what is
	// kept is Console's own affair. nil drops it.
	Console io.Writer
	// Served is called each time that a connection of another process to the guest,
	// which this process has carried, is over; nil calls nobody.
	Served func()
	// User is whom the VMM runs as; nil means the caller's own identity.
	User *syscall.Credential
}

// Share is a directory of the host that virtiofsd serves.
type Share struct {
	// Tag is the name that the guest mounts it by, and its id.
	Tag string
	// Socket is the path of the socket that virtiofsd listens on. The driver sees
	// to it that the VMM gets there.
	Socket string
}

// Disk is a block device with raw bytes of the host behind it.
type Disk struct {
	// ID is as a NIC's.
	ID string
	// Path is a regular file or a block device. It may be opened by the VMM, as
	// Config.User and in the VMM's mount namespace, whose root is not the host's
	// any more once a sandbox is set up. A relative path is taken from the VMM's
	// working directory, RunDir(Config.Dir), which stays in reach; it is the only
	// place from which a VMM in a landlock domain takes disks that are added later.
	Path     string
	ReadOnly bool
}

// RunDir is the VMM's working directory for a sandbox's directory. New makes it.
// While it boots, Config.User can write to it; afterwards only root.
func RunDir(dir string) string { return filepath.Join(dir, "vmm") }

// InRunDir is what a path that the VMM takes relative to its working directory
// is for others.
func InRunDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(RunDir(dir), path)
}

// NIC is a virtual network interface with a tap of the host behind it.
type NIC struct {
	// ID names the device: letters, digits, dots, dashes and underscores, a
	// letter first.
	ID string
	// MAC is what the guest finds the interface by.
	MAC net.HardwareAddr
	// MTU is offered to the guest; 0 leaves it to the guest.
	MTU int
	// Tap holds one open tap for each pair of queues, made with
	// IFF_TAP|IFF_NO_PI|IFF_VNET_HDR.
	Tap []*os.File
}

// Accel says who runs the guest's instructions.
type Accel string

// The accelerators.
const (
	// AccelAuto is AccelKVM where ProbeKVM says that it works, else AccelTCG.
	AccelAuto Accel = "auto"
	// AccelKVM is the processor itself.
	AccelKVM Accel = "kvm"
	// AccelTCG is QEMU's translator, which needs nothing of the host.
	AccelTCG Accel = "tcg"
)

// maxCmdline is COMMAND_LINE_SIZE of the Linux kernel on x86, less the final zero.
const maxCmdline = 2047

// HotplugStepMiB is what memory is added in: what Linux takes at least.
const HotplugStepMiB = 128

// minMemoryMiB is less than any distribution's kernel boots with.
const minMemoryMiB = 48

// Validate says which field of the configuration cannot be honoured, with an
// error that wraps ErrConfig. It looks at no file.
func (c *Config) Validate() error {
	switch {
	case c.Binary == "" || !filepath.IsAbs(c.Binary):
		return c.bad("the VMM's program %q is not an absolute path", c.Binary)
	case c.Kernel == "":
		return c.bad("no kernel")
	case c.Dir == "" || !filepath.IsAbs(c.Dir):
		return c.bad("directory %q is not an absolute path", c.Dir)
	case c.Accel != "" && c.Accel != AccelAuto && c.Accel != AccelKVM && c.Accel != AccelTCG:
		return c.bad("unknown accelerator %q", c.Accel)
	case c.CPUs < 0 || c.MaxCPUs < 0 || c.CPUs > 255 || c.MaxCPUs > 255:
		return c.bad("%d of at most %d CPUs", c.CPUs, c.MaxCPUs)
	case c.MaxCPUs != 0 && c.MaxCPUs < c.CPUs:
		return c.bad("%d CPUs, but at most %d", c.CPUs, c.MaxCPUs)
	case c.MemoryMiB < minMemoryMiB:
		return c.bad("%d MiB of memory; a kernel needs %d", c.MemoryMiB, minMemoryMiB)
	case c.MaxMemoryMiB != 0 && (c.MaxMemoryMiB < c.MemoryMiB || (c.MaxMemoryMiB-c.MemoryMiB)%HotplugStepMiB != 0):
		return c.bad("%d MiB of memory and at most %d: the difference is no multiple of %d", c.MemoryMiB, c.MaxMemoryMiB, HotplugStepMiB)
	case !plain(c.SerialPort):
		return c.bad("the serial port %q", c.SerialPort)
	case c.HotplugSlots < 0 || c.HotplugSlots > 16:
		return c.bad("%d hot-plug slots; there are 0 to 16", c.HotplugSlots)
	}
	for _, word := range c.Cmdline {
		if word == "" || strings.ContainsAny(word, "\n\x00") {
			return c.bad("kernel parameter %q", word)
		}
	}
	if n := len(strings.Join(c.Cmdline, " ")); n > maxCmdline-512 {
		return c.bad("%d bytes of kernel parameters", n)
	}
	return c.validateDevices()
}

func (c *Config) validateDevices() error {
	seen := make(map[string]bool)
	use := func(id string) error {
		if seen[id] {
			return c.bad("two devices are called %s", id)
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

// Announced gives the kernel parameters that Announce has for the guest.
func (c *Config) Announced(guest transport.Guest) []string {
	if c.Announce == nil {
		return nil
	}
	return c.Announce(guest)
}

func (c *Config) bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// Validate says what is wrong with the share, with an error that wraps ErrConfig.
func (s Share) Validate() error {
	switch {
	case len(s.Tag) > 36 || !plain(s.Tag):
		return fmt.Errorf("%w: virtiofs tag %q", ErrConfig, s.Tag)
	case !filepath.IsAbs(s.Socket):
		return fmt.Errorf("%w: virtiofs %s: the socket %q is not an absolute path", ErrConfig, s.Tag, s.Socket)
	}
	return nil
}

// Validate says what is wrong with the disk, with an error that wraps ErrConfig.
func (d Disk) Validate() error {
	switch {
	case !plain(d.ID) || len(d.ID) > 32:
		return fmt.Errorf("%w: disk id %q", ErrConfig, d.ID)
	case d.Path == "" || strings.ContainsRune(d.Path, 0):
		return fmt.Errorf("%w: disk %s: path %q", ErrConfig, d.ID, d.Path)
	}
	return nil
}

// Validate says what is wrong with the interface, with an error that wraps ErrConfig.
func (n NIC) Validate() error {
	switch {
	case !plain(n.ID) || len(n.ID) > 32:
		return fmt.Errorf("%w: interface id %q", ErrConfig, n.ID)
	case len(n.MAC) != 6 || n.MAC[0]&1 != 0:
		return fmt.Errorf("%w: interface %s has no unicast Ethernet address: %q", ErrConfig, n.ID, n.MAC)
	case n.MTU != 0 && (n.MTU < 68 || n.MTU > 65535):
		return fmt.Errorf("%w: interface %s: MTU %d", ErrConfig, n.ID, n.MTU)
	case len(n.Tap) == 0:
		return fmt.Errorf("%w: interface %s has no tap", ErrConfig, n.ID)
	}
	return nil
}

// plain reports whether s can be an identifier in a VMM's options: a letter,
// then letters, digits, dots, dashes and underscores.
func plain(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		other := r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}
