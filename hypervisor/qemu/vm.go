// Package qemu runs VMs with QEMU: with KVM where it works, else with QEMU's own
// translator, so that runch works on any machine. It owns QEMU's command line, its
// process, its control socket (QMP) and the transport to the guest: AF_VSOCK where
// the host has it, else a virtio-serial port (package channel).
package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"runch/hypervisor"
	"runch/hypervisor/channel"
	"runch/hypervisor/process"
	"runch/transport"
	"runch/unixsocket"
)

// VM is a hypervisor.VM.
type VM struct {
	cfg   hypervisor.Config
	plan  plan
	files process.Files // what QEMU gets; empty after Boot
	user  *syscall.Credential
	state *os.File // what to restore, nil for a boot

	monitor *monitor         // connected before QEMU runs; nil after Boot
	console net.Conn         // our end of the serial line
	channel *channel.Channel // nil with a vsock
	vsock   *vsockTransport  // nil without
	served  sync.WaitGroup   // the goroutines that serve agent.sock and await QEMU's end

	lifecycle *process.Lifecycle
	closing   sync.Mutex // held by release
}

var (
	_ hypervisor.VM      = (*VM)(nil)
	_ hypervisor.Control = (*Handle)(nil)
)

// New prepares a VM: it opens what has a path and starts nothing. Accel may
// be auto. The caller closes the VM. Errors wrap hypervisor.ErrConfig and
// hypervisor.ErrNotFound where they apply.
func New(cfg *hypervisor.Config) (hypervisor.VM, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	accel, err := hypervisor.ResolveAccel(string(cfg.Accel))
	if err != nil {
		return nil, err
	}
	vm := &VM{cfg: *cfg, lifecycle: process.NewLifecycle()}
	vm.plan = plan{cfg: &vm.cfg, accel: accel, firmware: findFirmware()}
	vm.user = process.UserFor(cfg.User, accel)
	if err := vm.open(); err != nil {
		_ = vm.Close()
		return nil, err
	}
	return vm, nil
}

func (vm *VM) open() error {
	if err := process.MakeRunDir(vm.cfg.Dir); err != nil {
		return err
	}
	if err := vm.openPayload(); err != nil {
		return err
	}
	memory, err := memoryFile("guest memory")
	if err != nil {
		return err
	}
	vm.plan.memory = vm.files.Take(memory)
	if err := vm.openMonitor(); err != nil {
		return err
	}
	console, theirs, err := socketPair("console")
	if err != nil {
		return err
	}
	vm.console, vm.plan.console = console, vm.files.Take(theirs)
	if err := vm.openTransport(); err != nil {
		return err
	}
	return vm.openDevices()
}

// openDevices opens what is behind the devices of the boot.
func (vm *VM) openDevices() error {
	if s := vm.cfg.Share; s != nil {
		conn, err := dialShare(s.Socket)
		if err != nil {
			return err
		}
		vm.plan.share = vm.files.Take(conn)
	}
	for _, nic := range vm.cfg.NICs {
		fds := make([]int, len(nic.Tap))
		for i, f := range nic.Tap {
			fds[i] = vm.files.Borrow(f)
		}
		vm.plan.taps = append(vm.plan.taps, fds)
	}
	for _, disk := range vm.cfg.Disks {
		f, kind, err := openDisk(vm.cfg.Dir, disk)
		if err != nil {
			return err
		}
		vm.plan.disks = append(vm.plan.disks, planDisk{fd: vm.files.Take(f), kind: kind})
	}
	if vm.cfg.Restore == "" {
		return nil
	}
	var err error
	if vm.state, err = os.Open(filepath.Join(hypervisor.InRunDir(vm.cfg.Dir, vm.cfg.Restore), stateFile)); err != nil {
		return fmt.Errorf("open the saved VM: %w", err)
	}
	return nil
}

func (vm *VM) openPayload() error {
	kernel, err := process.OpenPayload("kernel", vm.cfg.Kernel, vm.user, vm.cfg.Dir)
	if err != nil {
		return err
	}
	vm.plan.kernel = vm.files.Take(kernel)
	if vm.cfg.Initramfs == "" {
		return nil
	}
	initramfs, err := process.OpenPayload("initramfs", vm.cfg.Initramfs, vm.user, vm.cfg.Dir)
	if err != nil {
		return err
	}
	vm.plan.initramfs = vm.files.Take(initramfs)
	return nil
}

// openMonitor makes the control socket and connects to it: QEMU answers once it
// runs, and the connection ends when QEMU does.
func (vm *VM) openMonitor() error {
	l, err := unixsocket.Listen(filepath.Join(vm.cfg.Dir, monitorSocket))
	if err != nil {
		return err
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		return fmt.Errorf("make QEMU's monitor: %w", err)
	}
	vm.plan.qmp = vm.files.Take(file)
	vm.monitor, err = dialMonitor(filepath.Join(vm.cfg.Dir, monitorSocket))
	return err
}

func (vm *VM) openTransport() error {
	var err error
	if vm.vsock, err = openVsock(); err != nil {
		return err
	}
	if vm.vsock != nil {
		vm.plan.vsock, vm.plan.cid = vm.files.Borrow(vm.vsock.device), vm.vsock.cid
		return nil
	}
	ours, theirs, err := socketPair("serial channel")
	if err != nil {
		return err
	}
	vm.plan.channel = vm.files.Take(theirs)
	if vm.channel, err = channel.New(ours, vm.cfg.Log); err != nil {
		_ = ours.Close()
		return fmt.Errorf("open the channel to the guest: %w", err)
	}
	l, err := unixsocket.Listen(filepath.Join(vm.cfg.Dir, agentSocket))
	if err != nil {
		return err
	}
	vm.served.Go(func() { _ = vm.channel.Serve(l, vm.cfg.Served) })
	return nil
}

// Listen takes the connections that the guest makes to a port of the host.
func (vm *VM) Listen(port uint32) (l net.Listener, err error) {
	err = vm.lifecycle.Prepare(func() error {
		if vm.vsock != nil {
			l, err = vm.vsock.listen(port)
			return err
		}
		l, err = vm.channel.Listen(port)
		if errors.Is(err, channel.ErrInUse) {
			return fmt.Errorf("listen for the guest on port %d: %w", port, hypervisor.ErrInUse)
		}
		return err
	})
	return l, err
}

// Endpoint is how other processes reach the guest.
func (vm *VM) Endpoint() transport.Endpoint {
	if vm.vsock != nil {
		return transport.Endpoint{CID: vm.vsock.cid}
	}
	return transport.Endpoint{Unix: filepath.Join(vm.cfg.Dir, agentSocket)}
}

// guest is how the guest reaches the host.
func (vm *VM) guest() transport.Guest {
	if vm.vsock != nil {
		return transport.Guest{Ports: vm.vsock.hostPorts()}
	}
	return transport.Guest{Serial: true}
}

// Dial connects to a port of the guest.
func (vm *VM) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	if vm.vsock != nil {
		return vm.vsock.dial(ctx, port)
	}
	conn, err := vm.channel.Dial(ctx, port)
	if errors.Is(err, channel.ErrClosed) {
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrClosed, err)
	}
	return conn, err
}

// Wait returns when QEMU has ended.
func (vm *VM) Wait() error { return vm.lifecycle.Wait() }

// Close kills QEMU and ends all connections and listeners. The sockets stay in
// Config.Dir, which the caller removes.
func (vm *VM) Close() error {
	vm.lifecycle.Close()
	return vm.release()
}

// release closes what the driver has open.
func (vm *VM) release() error {
	var errs []error
	if vm.channel != nil {
		errs = append(errs, vm.channel.Close())
		vm.served.Wait()
	}
	if vm.vsock != nil {
		vm.vsock.close()
		vm.served.Wait()
	}
	if vm.state != nil {
		_ = vm.state.Close()
	}
	vm.closing.Lock()
	defer vm.closing.Unlock()
	if vm.monitor != nil {
		_ = vm.monitor.Close()
		vm.monitor = nil
	}
	if vm.console != nil {
		_ = vm.console.Close()
	}
	vm.files.Close()
	return errors.Join(errs...)
}
