// Package hypervisor is what the sandbox asks of a virtual machine monitor (VMM):
// to boot and end a virtual machine (VM), and to change it while it runs (Control),
// from any process; the configuration of a VM; which of the host's programs to use;
// and whether the host's KVM runs guests. A driver lives in a package below. Nothing
// above this package knows which driver it talks to, and no driver knows what a
// container is, or what runs in the guest.
//
// # The lifecycle of a VM
//
// A driver's New makes a VM from a Config. It opens everything that has a path
// (kernel, initramfs, sockets) and starts nothing. Then, in this order:
//
//   - Listen, as often as wanted, before Boot: a guest that connects to the host
//     must find its listener.
//   - Boot, once. Afterwards the driver opens nothing by path any more, so the
//     process may change its root and its mounts; for what Control opens see
//     Disk.Path.
//   - Dial, Endpoint and Wait, by any number of goroutines.
//   - Close, always, also when Boot failed or was never called.
//
// The caller closes every listener and connection that it was given, and Close
// closes those that it left open. Files in a Config (taps) stay the caller's: the
// VMM has its own copies once Boot has returned.
package hypervisor

import (
	"context"
	"errors"
	"net"

	"runch/transport"
)

// VM is one virtual machine and the VMM process that runs it. All methods but
// Listen and Boot may be called at any time, by several goroutines.
type VM interface {
	// Listen takes the connections that the guest makes to a port of the host.
	// Only before Boot; once for a port (ErrInUse).
	Listen(port uint32) (net.Listener, error)

	// Boot starts the VMM process and the CPUs and returns when the VMM has
	// accepted the configuration; that the guest is up is for it to say, to a
	// listener. A VMM process that ends meanwhile is an *ExitError. When ctx ends
	// first, the process is killed and ctx's cause is returned.
	Boot(ctx context.Context) error

	// Endpoint is how other processes reach the guest, as long as the process
	// that called Boot lives.
	Endpoint() transport.Endpoint

	// Dial connects to a port of the guest. Before somebody in the guest listens,
	// the connection is refused, or what is written waits: set a deadline. A port
	// without a listener gives a connection that ends at once, or an error.
	Dial(ctx context.Context, port uint32) (net.Conn, error)

	// Control gives control over the running VM to the process that has booted it,
	// also when that has another root by now. The caller closes it.
	Control(ctx context.Context) (Control, error)

	// Wait returns when the VMM process has ended: nil when the guest powered off
	// or was reset (which ends the process too) or Stopper.Stop was called,
	// ErrKilled after Close, an *ExitError otherwise. Before Boot it waits for
	// Boot. Several goroutines may call it, any number of times.
	Wait() error

	// Close kills the VMM process without asking the guest, waits until it is
	// gone, and ends all connections and listeners. It may be called again.
	Close() error
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
	// ErrClosed says that the VM was closed or its process has ended.
	ErrClosed = errors.New("the VM has ended")
	// ErrKilled is Wait's answer when Close ended the VM.
	ErrKilled = errors.New("the VM was killed")
	// ErrNoSlot says that every hot-plug slot is taken.
	ErrNoSlot = errors.New("no free hot-plug slot")
)
