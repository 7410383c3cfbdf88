package hypervisor

import (
	"context"
	"io"

	"runch/state"
)

// Control changes a running VM. It is for one goroutine, and is closed after a request or
// two, because others may have to wait until then. Every call ends when its context ends.
// If the VMM refuses a request, the error is a *RefusedError and nothing is left behind.
//
// Code that needs only one part of it takes that part's interface.
type Control interface {
	Plugger
	Resizer
	Pauser
	Saver
	Meter
	Stopper
	io.Closer

	// Capabilities returns what this VM supports.
	Capabilities(ctx context.Context) (Capabilities, error)
}

// Plugger adds and removes devices.
type Plugger interface {
	// AddNIC, AddDisk and AddShare plug in a device; the guest sees it some time
	// later. A share's id is its tag. The error is ErrNoSlot if no slot is free. The
	// caller closes the files of a tap.
	AddNIC(ctx context.Context, nic NIC) error
	AddDisk(ctx context.Context, disk Disk) error
	AddShare(ctx context.Context, share Share) error
	// Remove unplugs the device with that id, whether it was there at the boot or was
	// added later. It returns when the guest has released the device, so that its tap,
	// file or socket can be closed. If the guest does not release it, the error is the
	// context's cause. A VMM may refuse to unplug a disk or a share of the boot.
	Remove(ctx context.Context, id string) error
}

// Resizer changes the size of a VM.
type Resizer interface {
	// Resize changes the number of CPUs and the memory, both within the bounds of the
	// Config that the VM was booted with; 0 leaves a value as it is. It returns when the
	// VMM has accepted the size. The guest has to bring new CPUs online by itself,
	// releases removed ones later, and gives memory back as far as it can.
	//
	// Before it adds CPUs, Resize waits until the guest has released those that an earlier
	// call removed. If the guest does not, the error wraps the context's cause. Until the
	// guest has released them, a VMM may refuse to remove more.
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
	// Stop makes the VMM flush the disks and end. Wait then returns nil. The guest is
	// not asked: a clean power-off is the agent's task.
	Stop(ctx context.Context) error
}

// Capabilities are the features that differ between VMMs, their versions and transports.
type Capabilities struct {
	// VMM is the driver's name, Version that of its program.
	VMM, Version string
	// NICCounters says that Counters includes the interfaces.
	NICCounters bool
	// Snapshot says that a VM without shares can be saved and restored,
	// SnapshotShare that one with shares can.
	Snapshot, SnapshotShare bool
}

// Counters are the devices' counters by device id.
type Counters struct {
	Disks map[string]DiskCounters
	NICs  map[string]NICCounters
}

// DiskCounters count the guest's requests.
type DiskCounters struct {
	ReadBytes, WriteBytes, ReadOps, WriteOps uint64
}

// NICCounters count as the guest sees it: received is what the guest has received.
type NICCounters struct {
	ReceivedBytes, ReceivedFrames, SentBytes, SentFrames uint64
}
