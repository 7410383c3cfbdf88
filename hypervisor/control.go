package hypervisor

import (
	"context"
	"io"

	"runch/state"
)

// Control changes a running VM, from any process of its host that can reach its
// directory; a driver's Attach gives one. It is for one goroutine and is closed
// after a request or two: others may have to wait for it meanwhile. Every call ends
// with its context. What the VMM refuses is a *RefusedError, and leaves nothing
// behind.
//
// Who needs one part of it only takes that part's interface.
type Control interface {
	Plugger
	Resizer
	Pauser
	Saver
	Meter
	Stopper
	io.Closer

	// Capabilities says what this VM can be asked for.
	Capabilities(ctx context.Context) (Capabilities, error)
}

// Plugger adds and removes devices.
type Plugger interface {
	// AddNIC, AddDisk and AddShare plug in a device; the guest sees it some time
	// later. A share's id is its tag. All slots taken is ErrNoSlot. The files of a
	// tap stay the caller's.
	AddNIC(ctx context.Context, nic NIC) error
	AddDisk(ctx context.Context, disk Disk) error
	AddShare(ctx context.Context, share Share) error
	// Remove unplugs the device of that id, from the boot or later, and returns
	// when the guest has released it: what is behind it may be closed then. If the
	// guest does not release it, the error is the context's cause.
	Remove(ctx context.Context, id string) error
}

// Resizer changes the size of a VM.
type Resizer interface {
	// Resize changes the number of CPUs and the memory, either within the bounds of the
	// Config that the VM was booted with; 0 leaves a value as it is. It returns when the
	// VMM has accepted the size: the guest has to bring new CPUs online by itself,
	// releases others later, and gives memory back as far as it can. Where CPUs are to
	// come, Resize first waits until the guest has released those that it still has to;
	// if it does not, the error wraps the context's cause. Until then a VMM may refuse to
	// take more CPUs away.
	Resize(ctx context.Context, size state.VMSize) error
}

// Pauser stops and resumes the CPUs. Either call may be repeated.
type Pauser interface {
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}

// Saver saves a VM.
type Saver interface {
	// Snapshot writes the state of a paused VM into dir, an empty directory (see
	// Disk.Path for what a path means), where Config.Restore finds it. The VM
	// stays paused.
	Snapshot(ctx context.Context, dir string) error
}

// Meter counts what goes through the devices.
type Meter interface {
	// Counters gives the figures since the boot.
	Counters(ctx context.Context) (*Counters, error)
}

// Stopper ends a VM.
type Stopper interface {
	// Stop ends the VMM after it has flushed the disks, and Wait gives nil. The
	// guest is not asked: to power off is up to its agent.
	Stop(ctx context.Context) error
}

// Capabilities are what differs between VMMs, their versions and transports.
type Capabilities struct {
	// VMM is the driver's name, Version that of its program.
	VMM, Version string
	// NICCounters says that Counters has interfaces.
	NICCounters bool
	// Snapshot says that a VM without shares can be saved and restored,
	// SnapshotShare that one with shares can.
	Snapshot, SnapshotShare bool
}

// Counters are by the ids of the devices.
type Counters struct {
	Disks map[string]DiskCounters
	NICs  map[string]NICCounters
}

// DiskCounters count the guest's requests.
type DiskCounters struct {
	ReadBytes, WriteBytes, ReadOps, WriteOps uint64
}

// NICCounters count from the guest's side.
type NICCounters struct {
	ReceivedBytes, ReceivedFrames, SentBytes, SentFrames uint64
}
