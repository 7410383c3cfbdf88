package hypervisor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Share is a directory of the host that virtiofsd serves.
type Share struct {
	// Tag is the name that the guest mounts it by, and its id.
	Tag string
	// Socket is the absolute path of the socket that virtiofsd listens on. The driver has
	// to be able to reach it, the VMM need not.
	Socket string
}

// Disk is a block device whose content is a file or block device of the host, in raw format.
type Disk struct {
	// ID names the device, with the same rules as NIC.ID.
	ID string
	// Path is a regular file or a block device. The VMM may open it itself, as
	// Config.User and in its own mount namespace, whose root is no longer the host's
	// once a sandbox is set up. A relative path starts at the VMM's working
	// directory, RunDir(Config.Dir), which stays reachable. Disks that are added later
	// have to be in that directory if the VMM is in a landlock domain.
	Path     string
	ReadOnly bool
}

// NIC is a virtual network interface whose frames go through a tap of the host.
type NIC struct {
	// ID names the device: letters, digits, dots, dashes and underscores, a
	// letter first.
	ID string
	// MAC is the hardware address, by which the guest identifies the interface.
	MAC net.HardwareAddr
	// MTU is offered to the guest; 0 leaves it to the guest.
	MTU int
	// Tap holds one open tap for each pair of queues, made with
	// IFF_TAP|IFF_NO_PI|IFF_VNET_HDR.
	Tap []*os.File
}

// Validate returns an error that wraps ErrConfig and says what is wrong with the share, or nil.
func (s Share) Validate() error {
	switch {
	case len(s.Tag) > 36 || !identifier(s.Tag):
		return fmt.Errorf("%w: virtiofs tag %q", ErrConfig, s.Tag)
	case !filepath.IsAbs(s.Socket):
		return fmt.Errorf("%w: virtiofs %s: the socket %q is not an absolute path", ErrConfig, s.Tag, s.Socket)
	}
	return nil
}

// Validate returns an error that wraps ErrConfig and says what is wrong with the disk, or nil.
func (d Disk) Validate() error {
	switch {
	case !identifier(d.ID) || len(d.ID) > 32:
		return fmt.Errorf("%w: disk id %q", ErrConfig, d.ID)
	case d.Path == "" || strings.ContainsRune(d.Path, 0):
		return fmt.Errorf("%w: disk %s: path %q", ErrConfig, d.ID, d.Path)
	}
	return nil
}

// Validate returns an error that wraps ErrConfig and says what is wrong with the NIC, or nil.
func (n NIC) Validate() error {
	switch {
	case !identifier(n.ID) || len(n.ID) > 32:
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

// identifier reports whether s can name a device in a VMM's options: a letter,
// then letters, digits, dots, dashes and underscores.
func identifier(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		other := r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}
