package shimproto

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"runch/hypervisor"
	"runch/state"
	"runch/storage"
	"runch/unixsocket"

	"golang.org/x/sys/unix"
)

// ErrHolderGone says that a holder has closed its sockets: it has ended, or is about to.
var ErrHolderGone = errors.New("the sandbox's holder is gone")

// holderTimeout bounds one exchange with a holder.
const holderTimeout = 30 * time.Second

// Holder sends requests to the holder of the sandbox with this directory.
type Holder struct{ Dir string }

// Share attaches mounts below a share's name. The caller still closes the mounts.
func (h Holder) Share(name string, mounts []storage.Mount) error {
	for len(mounts) > 0 {
		some := mounts[:min(len(mounts), maxFiles)]
		mounts = mounts[len(some):]
		r := Request{Share: &ShareRequest{Name: name}}
		for _, m := range some {
			r.Share.Paths = append(r.Share.Paths, m.Path)
		}
		if _, err := h.ask(r, filesOf(some)); err != nil {
			return err
		}
	}
	return nil
}

// Protect makes the rootfs of a share read-only.
func (h Holder) Protect(name string) error {
	_, err := h.ask(Request{Protect: name}, nil)
	return err
}

// Clones gives clones of what is mounted for a share. The caller closes them.
func (h Holder) Clones(name string) ([]storage.Mount, error) {
	return h.ask(Request{Clones: name}, nil)
}

// Unshare detaches what is mounted for a share, if it is there.
func (h Holder) Unshare(name string) error {
	_, err := h.ask(Request{Unshare: name}, nil)
	return err
}

// AddNIC plugs an interface into the VM. The caller still closes the tap's files.
func (h Holder) AddNIC(nic hypervisor.NIC) error {
	_, err := h.ask(Request{AddNIC: &NIC{ID: nic.ID, MAC: nic.MAC, MTU: nic.MTU}}, nic.Tap)
	return err
}

// RemoveNIC unplugs an interface, and returns when the guest has released it.
func (h Holder) RemoveNIC(id string) error {
	_, err := h.ask(Request{RemoveNIC: id}, nil)
	return err
}

// Resize changes the size of the VM, as hypervisor.Resizer does it.
func (h Holder) Resize(size state.VMSize) error {
	_, err := h.ask(Request{Resize: &size}, nil)
	return err
}

// Attend tells the holder that this process is the shim of a member of its pod. The
// holder counts the member as alive until the returned Closer is closed.
func (h Holder) Attend() (io.Closer, error) {
	conn, err := h.dial()
	if err != nil {
		return nil, orGone(err)
	}
	if _, err := exchange(conn, Request{Attend: true}, nil); err != nil {
		_ = conn.Close() // it was not used
		return nil, orGone(err)
	}
	return conn, nil
}

// Terminate has the holder's own container get SIGTERM when no member of its pod lives
// any more. It is an error if no member lives now.
func (h Holder) Terminate() error {
	_, err := h.ask(Request{Terminate: true}, nil)
	return err
}

// ServeNames gives the guest the name server at a loopback address of the holder's
// network namespace. It is an error if no server listens there.
func (h Holder) ServeNames(server netip.Addr) error {
	_, err := h.ask(Request{ServeNames: server}, nil)
	return err
}

func (h Holder) ask(r Request, files []*os.File) (answer []storage.Mount, err error) {
	defer func() { err = orGone(err) }()
	conn, err := h.dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return exchange(conn, r, files)
}

// orGone is err, and wraps ErrHolderGone too if err says that the holder's socket is closed.
func orGone(err error) error {
	for _, gone := range []error{unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE, io.EOF} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w: %w", ErrHolderGone, err)
		}
	}
	return err
}

// dial connects to the holder, for one exchange.
func (h Holder) dial() (*net.UnixConn, error) {
	conn, err := unixsocket.DialPacket(filepath.Join(h.Dir, HolderSocket))
	if err != nil {
		return nil, fmt.Errorf("reach the sandbox's holder: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(holderTimeout)); err != nil {
		_ = conn.Close() // it was not used
		return nil, fmt.Errorf("reach the sandbox's holder: %w", err)
	}
	return conn, nil
}

func exchange(conn *net.UnixConn, r Request, files []*os.File) ([]storage.Mount, error) {
	if err := send(conn, r, files); err != nil {
		return nil, fmt.Errorf("ask the sandbox's holder: %w", err)
	}
	return readAnswer(conn)
}

func readAnswer(conn *net.UnixConn) (mounts []storage.Mount, err error) {
	defer func() {
		if err != nil {
			storage.CloseMounts(mounts)
			mounts = nil
		}
	}()
	for {
		var a Answer
		files, err := ReceiveFiles(conn, &a)
		if err != nil {
			return mounts, fmt.Errorf("the answer of the sandbox's holder: %w", err)
		}
		some, err := PairMounts(a.Paths, files)
		if err != nil {
			return mounts, err
		}
		mounts = append(mounts, some...)
		switch {
		case a.Error != "":
			return mounts, errors.New(a.Error)
		case !a.More:
			return mounts, nil
		}
	}
}
