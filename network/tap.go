package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tapPrefix begins the names of our taps; the mirrored link's index follows.
const tapPrefix = "runch"

// Tap is the guest's end of a mirrored link.
type Tap struct {
	// Name is the tap's in the namespace, what Detach wants.
	Name string
	// Files are the tap's open queues. They work in every namespace. The
	// caller closes them once the VMM has its own; the device goes when the
	// last descriptor does.
	Files []*os.File
	MAC   net.HardwareAddr
	// MTU is in bytes, without the Ethernet header.
	MTU int
}

// Close closes the tap's files. Used when no VMM took them over.
func (t Tap) Close() error {
	var errs []error
	for _, f := range t.Files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// TapName is the name that Attach gives to the tap of link. It is the same at
// every call, so a later command can tell which links of a new Scan already
// have their tap.
func TapName(link Link) string { return tapPrefix + strconv.Itoa(link.Index) }

// linkIndex is the index of the link that a tap of ours mirrors.
func linkIndex(tapName string) (int, error) {
	digits, ok := strings.CutPrefix(tapName, tapPrefix)
	if !ok {
		return 0, fmt.Errorf("tap name %q does not begin with %s", tapName, tapPrefix)
	}
	index, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || index <= 0 {
		return 0, fmt.Errorf("tap name %q holds no link index", tapName)
	}
	return int(index), nil
}

// openTap makes a tap in the thread's namespace and returns its only queue.
// The device is not persistent: it lives as long as the descriptor.
func openTap(name string) (*os.File, error) {
	n, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		_ = unix.Close(n)
		return nil, fmt.Errorf("tap name %q: %w", name, err)
	}
	// IFF_VNET_HDR lets checksums and segmentation offloads cross the tap.
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(n, unix.TUNSETIFF, req); err != nil {
		_ = unix.Close(n)
		return nil, fmt.Errorf("create tap %s: %w", name, err)
	}
	// Only now: a descriptor without its device cannot be polled.
	return os.NewFile(uintptr(n), name), nil
}

// setUpTap gives a new tap its MTU, keeps the namespace's own IPv6 off it and
// sets it up.
func setUpTap(h *netlink.Handle, name string, mtu int) (netlink.Link, error) {
	tap, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find tap %s: %w", name, err)
	}
	if err := h.LinkSetMTU(tap, mtu); err != nil {
		return nil, fmt.Errorf("set MTU %d of tap %s: %w", mtu, name, err)
	}
	// Without a link-local address the namespace's stack sends nothing of
	// its own to the guest. A kernel without IPv6 refuses and needs it not.
	_ = h.LinkSetIP6AddrGenMode(tap, addrGenNone)
	if err := h.LinkSetUp(tap); err != nil {
		return nil, fmt.Errorf("set tap %s up: %w", name, err)
	}
	return tap, nil
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addrGenNone = 1
