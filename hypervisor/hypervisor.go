// Package hypervisor says what the sandbox asks of a virtual machine monitor:
// to boot and end one (VMM), and to change it while it runs (Control), from any
// process; the configuration of a VM; which of the host's programs to use; and
// whether its KVM runs guests. A driver lives in a package below; nothing above this package knows
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
//     process may change its root and its mounts; what Control is told to open
//     has its own rule (Disk.Path).
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

	"runch/transport"
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
	Endpoint() transport.Endpoint

	// Dial connects to a port of the guest, which is ready once it has said hello;
	// before, bytes wait or the connection is refused, so set a deadline. A port
	// that nobody serves gives a connection that ends at once, or an error.
	Dial(ctx context.Context, port uint32) (net.Conn, error)

	// Wait returns when the VMM's process has ended: nil when the guest powered
	// off or was reset (which ends it as well) or Control.Stop was called,
	// ErrKilled after Close, an *ExitError otherwise. Before Boot it waits for Boot. It may be called by
	// several goroutines and keeps its answer.
	Wait() error

	// Close ends the VMM without asking the guest, waits until its process is
	// gone, ends all connections and listeners, and removes the driver's sockets
	// where their directory can still be seen. It may be called again.
	Close() error
}

// Control is a hold on a running VM by any process of its host that can reach
// its directory; a driver's Attach gives it. It is for one goroutine, and kept
// for one order or two: other holders may have to wait meanwhile. Every call
// ends with its context. What the VMM refuses is a *RefusedError, and nothing of
// it is left behind.
type Control interface {
	// Capabilities says what this VM can be asked for.
	Capabilities(ctx context.Context) (Capabilities, error)

	// AddNIC, AddDisk and AddShare plug in a device; the guest sees it some time
	// later. A share's id is its tag. All slots taken is ErrNoSlot. The files of a
	// tap stay the caller's.
	AddNIC(ctx context.Context, nic NIC) error
	AddDisk(ctx context.Context, disk Disk) error
	AddShare(ctx context.Context, share Share) error
	// Remove unplugs the device of that id, from the boot or later, and returns
	// when the guest has let go of it: what is behind it may go then. A guest
	// that does not is an error with the context's cause.
	Remove(ctx context.Context, id string) error

	// Resize changes the number of CPUs and the memory, either within the bounds
	// of the Config that the VM was booted with; 0 leaves a value. It returns when
	// the VMM has taken the order: the guest has to use new CPUs by itself, and
	// gives away memory as far as it can.
	Resize(ctx context.Context, size Size) error

	// Pause stops the CPUs and Resume lets them go on; either may be called again.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error

	// Counters gives what went through the devices since the boot.
	Counters(ctx context.Context) (*Counters, error)

	// Snapshot writes the state of a paused VM into dir, an empty directory (see
	// Disk.Path for what a path means), from where Config.Restore takes it. The VM
	// stays paused. A *RefusedError says why it cannot be done.
	Snapshot(ctx context.Context, dir string) error

	// Stop ends the VMM in good order: disks are flushed, and Wait answers nil. The
	// guest is not asked: powering off is for its agent.
	Stop(ctx context.Context) error

	Close() error
}

// Capabilities are what differs between VMMs, their versions and transports.
type Capabilities struct {
	// VMM is the driver's name and the version of its program.
	VMM, Version string
	// NICCounters says that Counters tells of interfaces.
	NICCounters bool
	// Snapshot says that a VM without shares can be saved and restored,
	// SnapshotShare that one with shares can.
	Snapshot, SnapshotShare bool
}

// Size is what Resize changes.
type Size struct {
	CPUs, MemoryMiB int
}

// Counters are by the ids of the devices.
type Counters struct {
	Disks map[string]DiskCounters
	NICs  map[string]NICCounters
}

// DiskCounters count what the guest has asked for.
type DiskCounters struct {
	ReadBytes, WriteBytes, ReadOps, WriteOps uint64
}

// NICCounters count from the guest's side.
type NICCounters struct {
	ReceivedBytes, ReceivedFrames, SentBytes, SentFrames uint64
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
