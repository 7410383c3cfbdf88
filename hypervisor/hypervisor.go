// Package hypervisor says what the sandbox asks of a virtual machine monitor:
// one interface, the configuration of a VM, and whether this host's KVM runs
// guests. A driver lives in a package below; nothing above this package knows
// which driver it talks to, and no driver knows what a container is.
//
// # The life of a VM
//
// A driver's New makes a VMM from a Config. It opens everything that has a path
// (kernel, initramfs, sockets) and starts nothing. Then, in this order:
//
//   - Listen, as often as wanted, before Boot: a guest that says hello must find
//     its listener.
//   - Boot, once. Afterwards the driver opens nothing by path any more, so the
//     process may change its root and its mounts.
//   - Dial, Endpoint and Wait, by any number of goroutines.
//   - Close, always, also after a New whose Boot failed or never was called.
//
// The caller closes every listener and connection that it was given, and Close
// closes those that it left open. Files in a Config (taps, a connected share)
// stay the caller's: the VMM has its own copies once Boot has returned.
package hypervisor

import (
	"context"
	"errors"
	"net"

	"runch/agentproto"
)

// VMM is one virtual machine and the process that runs it. All methods but
// Listen and Boot may be called at any time, by several goroutines.
type VMM interface {
	// Listen takes the connections that the guest makes to a port of the host.
	// Only before Boot; once for a port (ErrInUse).
	Listen(port uint32) (net.Listener, error)

	// Boot starts the process and the CPUs and returns when the VMM has accepted
	// its orders; the guest's own first word is for a listener to hear. A VMM
	// that dies meanwhile is an *ExitError with its last words. When ctx ends
	// first, the process is ended and ctx's cause is returned.
	Boot(ctx context.Context) error

	// Endpoint is how other processes reach the guest, as long as the process
	// that called Boot lives.
	Endpoint() agentproto.Endpoint

	// Dial connects to a port of the guest. It needs no guest that is ready: bytes
	// wait until one is there, so set a deadline for what is asked. A port that
	// nobody serves gives a connection that ends at once, or an error.
	Dial(ctx context.Context, port uint32) (net.Conn, error)

	// Wait returns when the VMM's process has ended: nil when the guest powered
	// off or was reset (which ends it as well), ErrKilled after Close, an
	// *ExitError otherwise. Before Boot it waits for Boot. It may be called by
	// several goroutines and keeps its answer.
	Wait() error

	// Close ends the VMM without asking the guest, waits until its process is
	// gone, ends all connections and listeners, and removes the driver's sockets
	// where their directory can still be seen. It may be called again.
	Close() error
}

// NICAdder is a VMM, or a handle on a running one, that takes interfaces while
// the guest runs.
type NICAdder interface {
	// AddNIC plugs in the interface; the guest sees it some time later, by its
	// hardware address. The tap's files stay the caller's.
	AddNIC(ctx context.Context, nic NIC) error
}

// The errors that callers decide on.
var (
	// ErrNotFound says that a program or file a VM needs is not there; the text
	// names it.
	ErrNotFound = errors.New("not found")
	// ErrConfig says that a Config cannot be honoured.
	ErrConfig = errors.New("invalid VM configuration")
	// ErrState says that the call does not fit the VM's state, for instance
	// Listen after Boot.
	ErrState = errors.New("not in this state of the VM")
	// ErrInUse says that the port has a listener.
	ErrInUse = errors.New("port has a listener")
	// ErrClosed says that the VMM was closed or its process has ended.
	ErrClosed = errors.New("the VM has ended")
	// ErrKilled is Wait's answer when Close ended the VM.
	ErrKilled = errors.New("the VM was killed")
	// ErrNoSlot says that every hot-plug slot is taken.
	ErrNoSlot = errors.New("no free hot-plug slot")
)
