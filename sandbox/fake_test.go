package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/shim"
	"runch/shimproto"
	"runch/state"
	"runch/transport"
	"runch/unixsocket"

	"golang.org/x/sys/unix"
)

// This test binary is the shim and virtiofsd of its own tests: what they run is all
// real but the VM, which is a part of the holder's process, and the agent in it.
func TestMain(m *testing.M) {
	as, ok := shimproto.ParseArgs(os.Args)
	switch {
	case ok:
		os.Exit(shim.Main(as, newFakeVM))
	case len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "--fd="):
		// virtiofsd, until its pid namespace ends. With a signal to wait for, the Go
		// runtime does not take it for a deadlock.
		term := make(chan os.Signal, 1)
		signal.Notify(term, unix.SIGTERM)
		if err := welcome(strings.TrimPrefix(os.Args[1], "--fd=")); err != nil {
			fmt.Fprintln(os.Stderr, "the fake virtiofsd:", err)
			os.Exit(1)
		}
		<-term
		os.Exit(0)
	}
	// A program with the race detector sleeps for a second before it ends. Shims and
	// their helpers are this program, and are waited for.
	shimEnv = append(shimEnv, "GORACE=atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// welcome takes a client's connection at the listening socket with this descriptor, and ends it.
func welcome(fd string) error {
	n, err := strconv.Atoi(fd)
	if err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(uintptr(n), "share"))
	if err != nil {
		return err
	}
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	return conn.Close()
}

// awaitServer waits, as a VMM does, until virtiofsd serves: the holder changes its root
// after the boot, and with it that of a virtiofsd which has yet to find its libraries.
func awaitServer(ctx context.Context, socket string) error {
	conn, err := unixsocket.Dial(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return fmt.Errorf("wait for virtiofsd: %w", err)
	}
	return nil
}

// failFile is where a test says which steps are to fail in its fake guests: the file
// is beside the state directory.
const failFile = "fail"

// bootPipe is a named pipe beside failFile, where a test has made one: a fake VM boots
// when somebody reads it.
const bootPipe = "boot-pipe"

// fakeVM is a VM without a VMM process. Its guest is reached as any other.
type fakeVM struct {
	cfg   *hypervisor.Config
	hello net.Listener
	agent *fakeAgent
	over  chan struct{}
}

func newFakeVM(_ string, cfg *hypervisor.Config) (hypervisor.VM, error) {
	// The process changes its root later.
	dir, err := os.OpenRoot(filepath.Join(cfg.Dir, "../.."))
	if err != nil {
		return nil, err
	}
	vm := &fakeVM{cfg: cfg, over: make(chan struct{})}
	vm.agent = &fakeAgent{
		dir: dir, containers: make(map[string]*fakeProcess), control: make(chan net.Conn), over: vm.over,
		nics: make(map[string]fakeNIC),
	}
	if vm.agent.fails("new") {
		return nil, errors.New("the fake VM fails as it is to")
	}
	l, err := unixsocket.Listen(vm.Endpoint().Unix)
	if err != nil {
		return nil, err
	}
	go vm.agent.serve(l)
	return vm, nil
}

func (vm *fakeVM) Listen(uint32) (net.Listener, error) {
	l, err := unixsocket.Listen(filepath.Join(vm.cfg.Dir, "hello.sock"))
	vm.hello = l
	return l, err
}

func (vm *fakeVM) Boot(ctx context.Context) error {
	if f, err := vm.agent.dir.OpenFile(bootPipe, os.O_WRONLY, 0); err == nil {
		_ = f.Close() // its reader goes on
	}
	if vm.agent.fails("boot") {
		return errors.New("the fake VM fails as it is to")
	}
	if err := awaitServer(ctx, vm.cfg.Share.Socket); err != nil {
		return err
	}
	for _, nic := range vm.cfg.NICs {
		if err := vm.agent.plug(nic); err != nil {
			return err
		}
	}
	conn, err := unixsocket.Dial(filepath.Join(vm.cfg.Dir, "hello.sock"))
	if err != nil {
		return err
	}
	go func() {
		defer conn.Close()
		if !vm.agent.fails("hello") {
			_ = agentproto.WriteHello(conn, &agentproto.Hello{Protocol: agentproto.Version})
		}
	}()
	return nil
}

func (vm *fakeVM) Endpoint() transport.Endpoint {
	return transport.Endpoint{Unix: filepath.Join(vm.cfg.Dir, "agent.sock")}
}

// Dial goes without the socket: this process may no longer see its directory.
func (vm *fakeVM) Dial(_ context.Context, port uint32) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go vm.agent.accept(theirs, port) //nolint:contextcheck // the server lives as long as its process
	return ours, nil
}

func (vm *fakeVM) Wait() error {
	<-vm.over
	return nil
}

func (vm *fakeVM) Close() error { return nil }

// sizesFile is where the fake guests note the sizes that their VMs were given, one in
// a line, beside failFile.
const sizesFile = "sizes"

// fakeControl notes what a running VM is asked for.
type fakeControl struct {
	hypervisor.Control
	agent *fakeAgent
}

// Control is called by the holder, in whose process the VM's fake agent is: it is that
// agent which notes the sizes.
func (vm *fakeVM) Control(context.Context) (hypervisor.Control, error) {
	return &fakeControl{agent: vm.agent}, nil
}

func (c *fakeControl) Resize(_ context.Context, size state.VMSize) error {
	if c.agent.fails("resize") {
		return errors.New("the fake VM fails as it is to")
	}
	return c.agent.note(sizesFile, size.CPUs, size.MemoryMiB)
}

func (c *fakeControl) AddNIC(_ context.Context, nic hypervisor.NIC) error { return c.agent.plug(nic) }

func (c *fakeControl) Remove(_ context.Context, id string) error {
	c.agent.mu.Lock()
	defer c.agent.mu.Unlock()
	nic, ok := c.agent.nics[id]
	if !ok || c.agent.fails("unplug") {
		return fmt.Errorf("the fake VM has no %s, or keeps it", id)
	}
	delete(c.agent.nics, id)
	for _, fd := range nic.taps {
		_ = unix.Close(fd)
	}
	return nil
}

func (c *fakeControl) Close() error { return nil }
