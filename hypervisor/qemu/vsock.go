package qemu

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"unsafe"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"runch/hypervisor"
	"runch/transport"
)

const (
	vhostVsockDevice = "/dev/vhost-vsock"
	// vhostVsockSetGuestCID is VHOST_VSOCK_SET_GUEST_CID of linux/vhost.h.
	vhostVsockSetGuestCID = 0x4008AF60
	// firstCID is the first context id for a guest, see vsock(7).
	firstCID = 3
	// cidTries bounds the search for a free context id. It draws from 2^31, few of which
	// are taken.
	cidTries = 64
)

// vsockTransport reaches the guest by the host's own AF_VSOCK.
type vsockTransport struct {
	device    *os.File // QEMU gets a copy; the context id is taken as long as one is open
	cid       uint32
	listeners map[uint32]net.Listener // by the port that listen was called for
}

// openVsock takes a context id for a guest. It returns nil without an error if the host has
// no vhost-vsock, or this user may not open it.
func openVsock() (*vsockTransport, error) {
	device, err := os.OpenFile(vhostVsockDevice, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open vsock: %w", err)
	}
	for range cidTries {
		var random [4]byte
		_, _ = rand.Read(random[:]) // it never fails
		cid := uint64(max(binary.NativeEndian.Uint32(random[:])>>1, firstCID))
		// The kernel refuses an id that another guest has, so there is no check before.
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), vhostVsockSetGuestCID, uintptr(unsafe.Pointer(&cid)))
		switch {
		case errno == 0:
			return &vsockTransport{device: device, cid: uint32(cid), listeners: make(map[uint32]net.Listener)}, nil // #nosec G115 -- made from 32 bits
		case errno != unix.EADDRINUSE:
			_ = device.Close()
			return nil, fmt.Errorf("take a vsock context id: %w", errno)
		}
	}
	_ = device.Close()
	return nil, fmt.Errorf("take a vsock context id: none of %d was free", cidTries)
}

// listen listens for the guest's connections to port. All guests share the host's ports, so
// it really listens on any free port, which hostPorts returns.
func (t *vsockTransport) listen(port uint32) (net.Listener, error) {
	if t.listeners[port] != nil {
		return nil, fmt.Errorf("listen for the guest on port %d: %w", port, hypervisor.ErrInUse)
	}
	const anyPort = 0
	l, err := vsock.ListenContextID(unix.VMADDR_CID_HOST, anyPort, nil)
	if err != nil {
		return nil, fmt.Errorf("listen for the guest on port %d: %w", port, err)
	}
	own := &ownGuest{Listener: l, cid: t.cid}
	t.listeners[port] = own
	return own, nil
}

// hostPorts returns the host's ports by the ports that listen was called for.
func (t *vsockTransport) hostPorts() map[uint32]uint32 {
	ports := make(map[uint32]uint32)
	for port, l := range t.listeners {
		if a, ok := l.Addr().(*vsock.Addr); ok {
			ports[port] = a.Port
		}
	}
	return ports
}

func (t *vsockTransport) dial(ctx context.Context, port uint32) (net.Conn, error) {
	return transport.Endpoint{CID: t.cid}.Dial(ctx, port)
}

// close closes the device and the listeners. With the device's last copy the context id is
// released and the connections end. It may be called again.
func (t *vsockTransport) close() {
	_ = t.device.Close()
	for _, l := range t.listeners {
		_ = l.Close()
	}
}

// ownGuest is a listener that refuses the connections of other guests.
type ownGuest struct {
	net.Listener
	cid uint32
}

// Accept waits for the guest's next connection.
func (l *ownGuest) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, net.ErrClosed
			}
			return nil, fmt.Errorf("accept on vsock: %w", err)
		}
		if a, ok := conn.RemoteAddr().(*vsock.Addr); ok && a.ContextID == l.cid {
			return conn, nil
		}
		_ = conn.Close()
	}
}
