package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/storage"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A command and the shim that it starts talk over one socket, in JSON: the
// command gives its orders, says when its hooks have run (proceed), hears how
// it went (report), and confirms what it has made of that (commit). A socket
// that closes before the commit tells the shim that the command is dead, and
// that everything is to be undone.

// orders are what a shim is to do.
type orders struct {
	ID        string `json:"id"`
	Container *containerOrders
	Exec      *execOrders
	Terminal  *terminalOrders
	// Timeout bounds everything up to the report.
	Timeout time.Duration
}

// terminalOrders are there when the process has a terminal. The console
// socket is the shim's file descriptor consoleFD.
type terminalOrders struct {
	Size *agentproto.TerminalSize
	// PlainNewlines is set where the command shows the terminal on the caller's,
	// which makes lines of what it gets itself.
	PlainNewlines bool
}

// containerOrders are for a sandbox's first shim.
type containerOrders struct {
	// Dir is the sandbox's directory on the host.
	Dir            string
	Spec           json.RawMessage
	Rootfs         string
	RootfsReadonly bool
	Binds          []storage.Bind
	// GuestOnly are the destinations of tmpfs and the like.
	GuestOnly    []string
	VM           vmOrders
	Virtiofsd    storage.Virtiofsd
	SelinuxLabel string
	NoPivot      bool
	NoNewKeyring bool
	Bundle       string
	// Hooks makes the shim wait for those of the command before it looks at the
	// network and boots; nil for no hooks.
	Hooks *hookOrders
}

// hookOrders are the hooks that the shim runs itself.
type hookOrders struct {
	CreateContainer []specs.Hook
	// State is the container's, for their stdin.
	State *specs.State
}

// vmOrders are what to boot.
type vmOrders struct {
	// Driver is the name of the VMM's driver.
	Driver    string
	Binary    string
	Accel     hypervisor.Accel
	Kernel    string
	Initramfs string
	Cmdline   []string
	CPUs      int
	MemoryMiB int
	// MaxCPUs and MaxMemoryMiB are what it may grow to.
	MaxCPUs, MaxMemoryMiB int
	// OverheadMiB is the part of the memory that is for the guest itself.
	OverheadMiB int
	// BootTimeout bounds the boot, up to the agent's hello.
	BootTimeout time.Duration
	// User is whom the VMM runs as, nil for root.
	User *syscall.Credential
}

// execOrders are for the shim of one more process.
type execOrders struct {
	ExecID       string
	Process      json.RawMessage
	Endpoint     agentproto.Endpoint
	SandboxPID   int
	Cgroup       string
	IgnorePaused bool
}

// reply is what the command sends after the orders.
type reply struct {
	Proceed bool
	Commit  bool
}

// report is what the shim sends: where there are hooks, that they may enter
// its namespaces, and at last how it went.
type report struct {
	Namespaced bool   `json:",omitempty"`
	Error      string `json:",omitempty"`
	// Unreachable: what went wrong is that the guest's agent does not answer.
	Unreachable bool         `json:",omitempty"`
	Ready       *readyReport `json:",omitempty"`
}

// failed is the report of an error.
func failed(err error) report {
	return report{Error: err.Error(), Unreachable: errors.Is(err, agentproto.ErrUnreachable)}
}

// readyReport says what the shim has made.
type readyReport struct {
	Endpoint agentproto.Endpoint
	// Taps are the names of those made in the network namespace.
	Taps []string
}

// The file descriptors that a shim finds besides its stdio.
const (
	syncFD    = 3
	consoleFD = 4
)

// channel is one end of the socket.
type channel struct {
	conn *net.UnixConn
	enc  *json.Encoder
	dec  *json.Decoder
}

// maxMessage bounds a message, in bytes: a spec is a few dozen KiB.
const maxMessage = 64 << 20

func newChannel(f *os.File) (*channel, error) {
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("open the shim's socket: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("open the shim's socket: not a unix socket")
	}
	return &channel{conn: conn, enc: json.NewEncoder(conn), dec: json.NewDecoder(io.LimitReader(conn, maxMessage))}, nil
}

// newChannelPair gives the command's end and the file that becomes the shim's.
func newChannelPair() (*channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the shim's socket: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "sync")
	ours, err := newChannel(os.NewFile(uintptr(fds[0]), "sync"))
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

func (c *channel) send(v any) error {
	if err := c.enc.Encode(v); err != nil {
		return fmt.Errorf("write to the shim's socket: %w", err)
	}
	return nil
}

func (c *channel) receive(v any) error {
	if err := c.dec.Decode(v); err != nil {
		return fmt.Errorf("read from the shim's socket: %w", err)
	}
	return nil
}

func (c *channel) close() { _ = c.conn.Close() }
