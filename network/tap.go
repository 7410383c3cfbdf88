package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tapPrefix begins the name of each tap; the index of the mirrored link follows.
const tapPrefix = "runch"

// Tap is the guest's end of a mirrored link.
type Tap struct {
	// Name is the device's name in the namespace.
	Name string
	// Files are the tap's open queues, which can be used in every namespace. The
	// caller closes them once the VMM has its own descriptors. The kernel removes the
	// device when its last descriptor is closed.
	Files []*os.File
	MAC   net.HardwareAddr
	// MTU is in bytes, without the Ethernet header.
	MTU int
	// NoAnswers says why the namespace's own sockets get no answers over the link. It is
	// nil if they do.
	NoAnswers error
}

// Close closes the tap's files.
func (t Tap) Close() error {
	var errs []error
	for _, f := range t.Files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// TapName is the name of the tap that Attach creates for a link. It depends on the
// link alone, so a later command can tell which links of a new Scan have a tap.
func TapName(link Link) string { return tapPrefix + strconv.Itoa(link.Index) }

// linkIndex is the index of the link that a tap was created for.
func linkIndex(tap string) (int, error) {
	digits, ok := strings.CutPrefix(tap, tapPrefix)
	index, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is no name of a tap", tap)
	}
	return index, nil
}

// openTap creates a tap in the calling thread's namespace and returns its only
// queue. The device is not persistent: it exists as long as the descriptor.
func openTap(name string) (*os.File, error) {
	n, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w%s", err, tunRemedy(err))
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
	// NewFile comes after TUNSETIFF: it registers the descriptor with epoll, which the
	// kernel refuses before the descriptor has a device.
	return os.NewFile(uintptr(n), name), nil
}

// tunRemedy is advice about an error from opening /dev/net/tun, empty if there is none.
func tunRemedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return ": every user may open it on most systems: `chmod 0666 /dev/net/tun` as root"
	case errors.Is(err, fs.ErrNotExist):
		return ": load its module, `modprobe tun` as root"
	}
	return ""
}

// setUpTap sets a new tap's MTU, gives it no IPv6 address and sets it up.
func setUpTap(h *netlink.Handle, name string, mtu int) (netlink.Link, error) {
	tap, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find tap %s: %w", name, err)
	}
	if err := h.LinkSetMTU(tap, mtu); err != nil {
		return nil, fmt.Errorf("set MTU %d of tap %s: %w", mtu, name, err)
	}
	// With a link-local address the namespace's own network stack would send
	// packets to the guest. It fails only on a kernel without IPv6, which gives no such
	// address.
	_ = h.LinkSetIP6AddrGenMode(tap, addrGenNone)
	if err := h.LinkSetUp(tap); err != nil {
		return nil, fmt.Errorf("set tap %s up: %w", name, err)
	}
	return tap, nil
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addrGenNone = 1
