package shimproto

import (
	"net"
	"net/netip"

	"runch/state"
	"runch/storage"
)

// Request is one request to a holder: exactly one of its fields is set. The answer
// is one Answer or several, of which the last has no More.
type Request struct {
	// Share attaches mounts, whose descriptors come along, below a share's name.
	Share *ShareRequest `json:",omitempty"`
	// Protect makes the rootfs of a share read-only.
	Protect string `json:",omitempty"`
	// Clones gives clones of what is mounted for a share.
	Clones string `json:",omitempty"`
	// Unshare detaches what is mounted for a share.
	Unshare string `json:",omitempty"`
	// AddNIC plugs an interface into the VM; the descriptors of its tap come along.
	AddNIC *NIC `json:",omitempty"`
	// RemoveNIC unplugs the interface of this id.
	RemoveNIC string `json:",omitempty"`
	// Resize changes the size of the VM; a value of 0 is left unchanged.
	Resize *state.VMSize `json:",omitempty"`
	// Attend says that the sender is the shim of a member, which keeps the connection
	// open as long as it lives.
	Attend bool `json:",omitempty"`
	// ServeNames gives the guest the name server at this address, on the loopback
	// interface of the holder's network namespace. It is an error if no server listens
	// there.
	ServeNames netip.Addr `json:",omitzero"`
	// Terminate has the holder's own container get SIGTERM when no member lives any
	// more. It is an error if no member lives now.
	Terminate bool `json:",omitempty"`
}

// NIC is an interface whose tap's descriptors come along.
type NIC struct {
	ID  string
	MAC net.HardwareAddr
	MTU int
}

// ShareRequest names a share, and the path in it of each descriptor.
type ShareRequest struct {
	Name  string
	Paths []string
}

// Answer is what a holder says to a Request.
type Answer struct {
	Error string `json:",omitempty"`
	// Paths are those of the descriptors that come along.
	Paths []string `json:",omitempty"`
	More  bool     `json:",omitempty"`
}

// Respond sends mounts in as many answers as they need.
func Respond(conn *net.UnixConn, mounts []storage.Mount, err error) error {
	if err != nil {
		return send(conn, Answer{Error: err.Error()}, nil)
	}
	for {
		some := mounts[:min(len(mounts), maxFiles)]
		mounts = mounts[len(some):]
		a := Answer{More: len(mounts) > 0}
		for _, m := range some {
			a.Paths = append(a.Paths, m.Path)
		}
		if err := send(conn, a, filesOf(some)); err != nil || !a.More {
			return err
		}
	}
}
