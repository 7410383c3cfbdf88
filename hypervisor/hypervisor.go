// Package hypervisor is the sandbox's interface to a virtual machine monitor (VMM).
// VM boots and ends a virtual machine (VM), Control changes it while it runs, from any
// process, and Config describes it. Choose decides which of the host's programs to use,
// and ProbeKVM finds out whether the host's KVM runs guests. Each driver is a package
// below this one. Nothing above this package knows which driver it talks to, and no driver
// knows what a container is, or what runs in the guest.
//
// # The lifecycle of a VM
//
// A driver's New makes a VM from a Config. It opens everything that has a path
// (kernel, initramfs, sockets) and starts nothing. Then, in this order:
//
//   - Listen, any number of times, before Boot: a guest that connects to the host
//     must find its listener.
//   - Boot, once. Afterwards the driver opens nothing by path any more, so the
//     process may change its root and its mounts. Control does open files: see
//     Disk.Path.
//   - Dial, Endpoint and Wait, by any number of goroutines.
//   - Close, always, also when Boot failed or was never called.
//
// The caller closes every listener and connection that it was given; Close ends those
// that are still open. The caller also closes the files in a Config (taps): the VMM has
// its own copies once Boot has returned.
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
	// Listen takes the connections that the guest makes to a port of the host. After
	// Boot the error is ErrState; if the port has a listener already, it is ErrInUse.
	Listen(port uint32) (net.Listener, error)

	// Boot starts the VMM process and the CPUs, and returns when the VMM has accepted
	// the configuration. It does not wait until the guest is up: the guest tells a
	// listener that. If the VMM process ends meanwhile, the error is an *ExitError. If
	// ctx ends first, Boot kills the process and returns ctx's cause.
	Boot(ctx context.Context) error

	// Endpoint is how other processes reach the guest, as long as the process
	// that called Boot lives.
	Endpoint() transport.Endpoint

	// Dial connects to a port of the guest. For a port without a listener it returns
	// an error, or a connection that ends at once. While the guest boots, it can also
	// return a connection whose data waits: set a deadline.
	Dial(ctx context.Context, port uint32) (net.Conn, error)

	// Control gives control over the running VM to the process that has booted it,
	// also when that has another root by now. The caller closes it.
	Control(ctx context.Context) (Control, error)

	// Wait returns when the VMM process has ended: nil if the guest powered off or was
	// reset (which ends the process too) or Stopper.Stop was called, ErrKilled after
	// Close, an *ExitError otherwise. Before Boot it waits for Boot, and returns ErrClosed
	// if the process was never started. Several goroutines may call it, any number of
	// times.
	Wait() error

	// Close kills the VMM process without asking the guest, waits until it is
	// gone, and ends all connections and listeners. It may be called again.
	Close() error
}

// TemplateDropper is a VM that may have gone on from a template, see Config.Templates.
type TemplateDropper interface {
	// DropTemplate removes the template that the VM went on from, if it did: later VMs boot,
	// and make another one. It is for a guest that does not come up.
	DropTemplate() error
}

// Errors that callers tell apart.
var (
	// ErrNotFound says that a program or file that a VM needs does not exist. The text
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
	// ErrKilled is what Wait returns if Close ended the VM.
	ErrKilled = errors.New("the VM was killed")
	// ErrNoSlot says that every hot-plug slot is taken.
	ErrNoSlot = errors.New("no free hot-plug slot")
)
