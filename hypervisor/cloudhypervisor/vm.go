// Package cloudhypervisor runs VMs with cloud-hypervisor, under KVM. It owns the
// VMM process, its API on a unix socket, its event monitor, and the transport to the
// guest: a vsock that the VMM itself serves on a unix socket, for which the host's
// kernel needs no vhost-vsock.
//
// What the VMM opens by path, sockets and the console's pipe, is in its working
// directory and named relative to it: so the VMM finds it when its root changes, and
// a saved VM can be restored in another place.
package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"runch/hypervisor"
	"runch/hypervisor/process"
	"runch/transport"
	"runch/unixsocket"
)

// The driver's files: the sockets of Config.Dir, and those of the VMM's working
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
	files  process.Files // what the VMM gets; empty after Boot
	plan   plan
	run    *os.File // the VMM's working directory
	events *events
	// Our ends of pipes. The console's writer keeps its reader from seeing an end
	// before the VMM has opened the pipe.
	console, consoleWriter, eventsReader *os.File

	listeners map[uint32]*listener // does not change once the process was started
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

// New prepares a VM: it opens what has a path and starts nothing. Accel may be
// auto, which is KVM: the VMM has no other. The caller closes the VM. Errors wrap
// hypervisor.ErrConfig and hypervisor.ErrNotFound where they apply.
func New(cfg *hypervisor.Config) (hypervisor.VM, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Accel == hypervisor.AccelTCG {
		return nil, fmt.Errorf("%w: %s has no accelerator but KVM", hypervisor.ErrConfig, vmmName)
	}
	vm := &VM{
		cfg: *cfg, user: process.UserFor(cfg.User, hypervisor.AccelKVM),
		api: api{socket: filepath.Join(cfg.Dir, apiSocket)}, plan: plan{landlock: hasLandlock()},
		listeners: make(map[uint32]*listener), lifecycle: process.NewLifecycle(),
	}
	if err := vm.open(); err != nil {
		_ = vm.Close()
		return nil, err
	}
	return vm, nil
}

func (vm *VM) open() error {
	if err := vm.openRunDir(); err != nil {
		return err
	}
	kernel, err := process.OpenPayload("kernel", vm.cfg.Kernel, vm.user, vm.cfg.Dir)
	if err != nil {
		return err
	}
	vm.plan.kernel = vm.files.Take(kernel)
	if vm.cfg.Initramfs != "" {
		initramfs, err := process.OpenPayload("initramfs", vm.cfg.Initramfs, vm.user, vm.cfg.Dir)
		if err != nil {
			return err
		}
		vm.plan.initramfs = vm.files.Take(initramfs)
	}
	if err := vm.openSockets(); err != nil {
		return err
	}
	if err := vm.openConsole(); err != nil {
		return err
	}
	if s := vm.cfg.Share; s != nil {
		return linkShare(vm.cfg.Dir, *s)
	}
	return nil
}

// openRunDir makes the VMM's working directory, where the VMM makes its vsock.
func (vm *VM) openRunDir() error {
	if err := process.MakeRunDir(vm.cfg.Dir); err != nil {
		return err
	}
	dir := hypervisor.RunDir(vm.cfg.Dir)
	if err := vm.chown(dir); err != nil {
		return err
	}
	if vm.cfg.Restore != "" {
		if err := vm.chown(hypervisor.InRunDir(vm.cfg.Dir, vm.cfg.Restore)); err != nil {
			return err
		}
	}
	// The VMM binds it, which fails where a killed predecessor has left one.
	if err := os.Remove(filepath.Join(dir, vsockSocket)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make the VMM's directory: %w", err)
	}
	var err error
	if vm.run, err = os.Open(dir); err != nil {
		return fmt.Errorf("open the VMM's directory: %w", err)
	}
	return nil
}

// chown makes the VMM's user the owner of a file.
func (vm *VM) chown(path string) error {
	if vm.user == nil {
		return nil
	}
	if err := os.Lchown(path, int(vm.user.Uid), int(vm.user.Gid)); err != nil {
		return fmt.Errorf("make the VMM's user an owner: %w", err)
	}
	return nil
}

// openSockets makes the API's socket, so that it can be connected to before the
// VMM runs, and the pipe and the socket for its events.
func (vm *VM) openSockets() error {
	l, err := unixsocket.Listen(vm.api.socket)
	if err != nil {
		return err
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		return fmt.Errorf("make the API's socket: %w", err)
	}
	vm.plan.api = vm.files.Take(file)
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the event monitor's pipe: %w", err)
	}
	vm.eventsReader, vm.plan.events = read, vm.files.Take(write)
	l, err = unixsocket.Listen(filepath.Join(vm.cfg.Dir, eventsSocket))
	if err != nil {
		return err
	}
	vm.events = newEvents(l)
	return nil
}

// openConsole makes the pipe that the VMM opens by path.
func (vm *VM) openConsole() error {
	path := filepath.Join(hypervisor.RunDir(vm.cfg.Dir), consolePipe)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make the console: %w", err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return fmt.Errorf("make the console: %w", err)
	}
	if err := vm.chown(path); err != nil {
		return err
	}
	var err error
	if vm.console, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
		vm.consoleWriter, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return fmt.Errorf("make the console: %w", err)
	}
	return nil
}

// shareSocket is a share's socket in the VMM's working directory.
func shareSocket(tag string) string { return tag + ".sock" }

// linkShare links virtiofsd's socket into the VMM's working directory and lets the
// VMM's user connect to it. Other users cannot reach it: the directories above are
// the caller's alone.
func linkShare(dir string, s hypervisor.Share) error {
	path := filepath.Join(hypervisor.RunDir(dir), shareSocket(s.Tag))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("share %s: %w", s.Tag, err)
	}
	if err := os.Link(s.Socket, path); err != nil {
		return fmt.Errorf("share %s: %w", s.Tag, err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // #nosec G302 -- see above: no other user gets there
		return fmt.Errorf("share %s: %w", s.Tag, err)
	}
	return nil
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

// Dial connects to a port of the guest. It goes by a directory that is open, since
// this process may have another root by now.
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
	for _, f := range []*os.File{vm.run, vm.console, vm.consoleWriter, vm.eventsReader} {
		closeFile(f)
	}
	return nil
}

// closeListeners ends what waits for connections of the guest, or for events.
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
