package shimproto

import (
	"encoding/json"
	"errors"
	"syscall"
	"time"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/oci"
	"runch/state"
	"runch/storage"
	"runch/transport"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A command starts a process and sends it a Setup. If there are hooks, the process
// reports its namespaces, and the command replies when it has run them (Reply.Proceed).
// The process then reports how the setup went (Report), and the command confirms once it
// has recorded that (Reply.Commit). A socket that closes before the commit tells the
// process that the command is dead, and that everything is to be undone.

// Setup is what a command asks of the process that it starts: to hold a VM, to
// stand for a container, both, or to stand for an exec.
type Setup struct {
	// ID is the container's.
	ID string `json:"id"`
	// VM is the one to boot and to hold; nil if another process holds it.
	VM        *VM
	Container *Container
	Exec      *Exec
	Terminal  *Terminal
	// Timeout bounds everything up to the commit.
	Timeout time.Duration
}

// Terminal is there when the process has a terminal. The console socket is the
// shim's file descriptor ConsoleFD.
type Terminal struct {
	Size *agentproto.TerminalSize
	// PlainNewlines is set if the command shows the output on its caller's terminal,
	// which itself puts a carriage return before each newline.
	PlainNewlines bool
}

// VM is what to boot.
type VM struct {
	// Sandbox is the sandbox's id, Dir its directory on the host.
	Sandbox string
	Dir     string
	// Driver is the name of the VMM's driver.
	Driver    string
	Binary    string
	Accel     hypervisor.Accel
	Kernel    string
	Initramfs string
	Cmdline   []string
	// VMSize is what it boots with.
	state.VMSize
	// MaxCPUs and MaxMemoryMiB are what it may grow to.
	MaxCPUs, MaxMemoryMiB int
	// NoHugePages keeps the host's kernel from backing the memory with huge pages.
	NoHugePages bool
	// Templates is the directory of saved guests that the VM may go on from, empty for a boot.
	Templates string
	// BootTimeout bounds the boot, up to the agent's hello.
	BootTimeout time.Duration
	// User is whom the VMM runs as, nil for root.
	User *syscall.Credential
	// Virtiofsd serves the shared directory.
	Virtiofsd    storage.Virtiofsd
	SelinuxLabel string
	// NewNetwork says that the network namespace is made with the process.
	NewNetwork bool
	// Pinned is the file by which the caller keeps the pod's network namespace. It is set
	// only for a sandbox that belongs to no container.
	Pinned string
}

// Container is a container to make in the sandbox's guest.
type Container struct {
	// Spec is the container's spec for the guest.
	Spec           json.RawMessage
	Rootfs         string
	RootfsReadonly bool
	Binds          []oci.Bind
	// GuestOnly are the destinations of mounts that exist in the guest alone, such as tmpfs.
	GuestOnly []string
	// Share is the name of the container's part of the shared directory.
	Share        string
	NoPivot      bool
	NoNewKeyring bool
	Bundle       string
	// Memory is the directory of its cgroup's memory on the host, empty for none.
	Memory string
	// OOMFile asks for a file in the bundle if the container was short of memory.
	OOMFile bool
	// CPUs is how many the VM has now, 0 if its size is still that of its boot.
	CPUs int
	// GuestDevices gives it all devices of the guest.
	GuestDevices bool
	// SharedNamespaces are those that the container joins in the guest.
	SharedNamespaces []*agentproto.SharedNamespace
	// SharedMemory are the file systems in memory that it shares with other containers there.
	SharedMemory []*agentproto.SharedMemory
	// Hooks makes the shim wait for the command's hooks and run its own; nil without hooks.
	Hooks *Hooks
	// If another process is the holder, Holder is the sandbox's directory, and Guest is
	// how its guest is reached. Attends says that the container is a member of the
	// holder's pod.
	Holder  string
	Attends bool
	Guest   transport.Endpoint
}

// Hooks are the hooks that the shim runs itself.
type Hooks struct {
	CreateContainer []specs.Hook
	// State is the container's state, for their stdin.
	State *specs.State
}

// Exec is one more process in a container.
type Exec struct {
	ID      string
	Process json.RawMessage
	Guest   transport.Endpoint
	// ShimPID is the pid of the container's shim.
	ShimPID      int
	Cgroup       string
	IgnorePaused bool
}

// Reply is what the command sends after the setup.
type Reply struct {
	Proceed bool
	Commit  bool
}

// Report is what the process sends: if there are hooks, first that they may enter
// its namespaces (Namespaced); at the end what it has made (Ready), or an error.
type Report struct {
	Namespaced bool   `json:",omitempty"`
	Error      string `json:",omitempty"`
	// Unreachable says that the error is of a guest's agent, or a holder, that does not
	// answer.
	Unreachable bool `json:",omitempty"`
	// OfVM says that the error is a VMError.
	OfVM  bool   `json:",omitempty"`
	Ready *Ready `json:",omitempty"`
}

// ExitLost is the exit code of a process whose end is not known, and of a shim whose
// guest is gone: as if by SIGKILL.
const ExitLost = 128 + int(unix.SIGKILL)

// VMError is an error whose cause is the VM or its guest, and not what was asked of
// them. The command adds the end of the VM's logs to it.
type VMError struct{ Err error }

// Error gives the text of Err.
func (e *VMError) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *VMError) Unwrap() error { return e.Err }

// Failed gives the Report of an error.
func Failed(err error) Report {
	r := Report{Error: err.Error(), Unreachable: errors.Is(err, agentproto.ErrUnreachable) || errors.Is(err, ErrHolderGone)}
	var ofVM *VMError
	r.OfVM = r.Unreachable || errors.As(err, &ofVM)
	return r
}

// Err is the error that was reported, nil for none.
func (r *Report) Err() error {
	var err error
	switch {
	case r.Unreachable:
		err = unreachable(r.Error)
	case r.Error != "":
		err = errors.New(r.Error)
	}
	if r.OfVM {
		return &VMError{Err: err}
	}
	return err
}

// unreachable is a report that the guest, or the holder of its VM, does not answer.
type unreachable string

func (u unreachable) Error() string { return string(u) }

func (unreachable) Is(target error) bool { return target == agentproto.ErrUnreachable }

// Ready says what the process has made.
type Ready struct {
	Endpoint transport.Endpoint
	// Taps are the taps that were made in the network namespace.
	Taps []state.Tap
	// NoLocalhost says why connections to localhost in that namespace do not reach the
	// guest; empty where they do.
	NoLocalhost string `json:",omitempty"`
	// NoAnswers says why that namespace's own sockets get no answers over its links;
	// empty where they do.
	NoAnswers string `json:",omitempty"`
}
