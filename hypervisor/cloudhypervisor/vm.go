// Package cloudhypervisor runs VMs with cloud-hypervisor, under KVM. It owns the
// VMM process, its API on a unix socket, its event monitor, and the transport to the
// guest: a vsock that the VMM itself serves on a unix socket, for which the host's
// kernel needs no vhost-vsock.
//
// The sockets and the console's pipe that the VMM opens by path are in its working
// directory, and their paths are relative to it. So the VMM finds them after its root has
// changed, and a saved VM can be restored in another place.
package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"runch/hypervisor"
	"runch/hypervisor/process"
	"runch/transport"
	"runch/unixsocket"
)

// The driver's files: the first two in Config.Dir, the others in the VMM's working
// directory.
const (
	apiSocket    = "api.sock"
	eventsSocket = "events.sock"
	vsockSocket  = "vsock"
	consolePipe  = "console"
)

// VM is a hypervisor.VM.
type VM struct {
	cfg    hypervisor.Config
	user   *syscall.Credential
	api    api
	files  process.Files // the files that the VMM inherits; empty after Boot
	plan   plan
	run    *os.File // the VMM's working directory
	events *events
	// Our ends of pipes. As long as consoleWriter is open, console does not see EOF: the
	// VMM opens the pipe only later.
	console, consoleWriter, eventsReader *os.File

	listeners map[uint32]*listener // does not change after Boot has begun
	work      sync.WaitGroup
	lifecycle *process.Lifecycle
}

// plan is what the VMM's command line and configuration need besides Config: its
// descriptors, and what the host supports.
type plan struct {
	api, events       int
	kernel, initramfs int // initramfs 0 when there is none
	landlock          bool
}

var (
	_ hypervisor.VM      = (*VM)(nil)
	_ hypervisor.Control = (*Handle)(nil)
)

// New prepares a VM: it opens everything that has a path, and starts nothing. Accel has to
// be KVM, because the VMM has no other. The caller closes the VM. The error can wrap
// hypervisor.ErrConfig or hypervisor.ErrNotFound.
func New(cfg *hypervisor.Config) (hypervisor.VM, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Accel == hypervisor.AccelTCG {
		return nil, fmt.Errorf("%w: %s has no accelerator but KVM", hypervisor.ErrConfig, vmmName)
	}
	vm := &VM{
		cfg: *cfg, user: process.UserFor(cfg.User, hypervisor.AccelKVM),
		plan:      plan{landlock: hasLandlock()},
		listeners: make(map[uint32]*listener), lifecycle: process.NewLifecycle(),
	}
	if err := vm.open(); err != nil {
		_ = vm.Close()
		return nil, err
	}
	return vm, nil
}

// listener is a socket that the VMM connects to when the guest dials the host.
type listener struct{ *net.UnixListener }

// Accept waits for the guest's next connection.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.UnixListener.Accept()
	if errors.Is(err, net.ErrClosed) {
		return nil, net.ErrClosed
	}
	return conn, err
}

// Listen takes the connections that the guest makes to a port of the host.
func (vm *VM) Listen(port uint32) (net.Listener, error) {
	var own *listener
	err := vm.lifecycle.Prepare(func() error {
		if vm.listeners[port] != nil {
			return fmt.Errorf("listen for the guest on port %d: %w", port, hypervisor.ErrInUse)
		}
		path := fmt.Sprintf("%s_%d", filepath.Join(hypervisor.RunDir(vm.cfg.Dir), vsockSocket), port)
		l, err := unixsocket.Listen(path)
		if err != nil {
			return err
		}
		if err := vm.chown(path); err != nil {
			_ = l.Close()
			return err
		}
		own = &listener{l}
		vm.listeners[port] = own
		return nil
	})
	if err != nil {
		return nil, err
	}
	return own, nil
}

// Endpoint is how other processes reach the guest.
func (vm *VM) Endpoint() transport.Endpoint {
	return transport.Endpoint{Unix: filepath.Join(hypervisor.RunDir(vm.cfg.Dir), vsockSocket)}
}

// Dial connects to a port of the guest. It uses the open working directory, because this
// process may have another root by now.
func (vm *VM) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	conn, err := unixsocket.DialAt(vm.run, vsockSocket)
	if err != nil {
		return nil, fmt.Errorf("dial the guest: %w", err)
	}
	if err := transport.Connect(ctx, conn, port); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// Wait returns when the VMM has ended.
func (vm *VM) Wait() error { return vm.lifecycle.Wait() }

// Close kills the VMM and closes the listeners. The sockets stay in Config.Dir,
// which the caller removes.
func (vm *VM) Close() error {
	vm.lifecycle.Close()
	vm.closeListeners()
	vm.work.Wait()
	vm.files.Close()
	for _, f := range []*os.File{vm.run, vm.api.dir, vm.console, vm.consoleWriter, vm.eventsReader} {
		closeFile(f)
	}
	return nil
}

// closeListeners closes the listeners for the guest, and the one for events with its clients.
func (vm *VM) closeListeners() {
	if vm.events != nil {
		vm.events.close()
	}
	for _, l := range vm.listeners {
		_ = l.Close()
	}
}

func closeFile(f io.Closer) {
	if f != (*os.File)(nil) {
		_ = f.Close()
	}
}
