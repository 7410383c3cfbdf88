// Package qemu runs VMs with QEMU, by KVM or by QEMU's own translator, with which runch
// works on any machine. It owns QEMU's command line, its process, its control socket (QMP)
// and the transport to the guest: AF_VSOCK if the host has it, else a virtio-serial port
// (package channel).
package qemu

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"runch/hypervisor"
	"runch/hypervisor/channel"
	"runch/hypervisor/process"
	"runch/transport"
)

// VM is a hypervisor.VM.
type VM struct {
	cfg    hypervisor.Config
	plan   plan
	files  process.Files // the files that QEMU inherits; empty after Boot
	user   *syscall.Credential
	memory *os.File // what becomes the guest's memory
	share  *os.File // a connection to virtiofsd, nil without a share
	state  *os.File // the saved VM to restore, nil for a boot
	// template is the directory of the template that the VM goes on from, empty for none.
	template string
	dir      *os.File // Config.Dir, whose path may lead nowhere once the process has another root

	monitor *monitor         // connected before QEMU runs; nil after Boot
	console net.Conn         // our end of the serial line
	channel *channel.Channel // nil with a vsock
	vsock   *vsockTransport  // nil without a vsock
	served  sync.WaitGroup   // goroutines that serve agent.sock or wait for QEMU's end
	leaving leavingCPUs

	lifecycle *process.Lifecycle
	closing   sync.Mutex // held by release
}

var (
	_ hypervisor.VM              = (*VM)(nil)
	_ hypervisor.TemplateDropper = (*VM)(nil)
	_ hypervisor.Control         = (*Handle)(nil)
)

// New prepares a VM: it opens everything that has a path, and starts nothing. The caller
// closes the VM. The error can wrap hypervisor.ErrConfig or hypervisor.ErrNotFound.
func New(cfg *hypervisor.Config) (hypervisor.VM, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	vm := &VM{cfg: *cfg, lifecycle: process.NewLifecycle()}
	vm.plan = plan{cfg: &vm.cfg, firmware: findFirmware()}
	vm.user = process.UserFor(cfg.User, cfg.Accel)
	if err := vm.open(); err != nil {
		_ = vm.Close()
		return nil, err
	}
	return vm, nil
}

// Listen takes the connections that the guest makes to a port of the host.
func (vm *VM) Listen(port uint32) (l net.Listener, err error) {
	err = vm.lifecycle.Prepare(func() error {
		if vm.vsock != nil {
			l, err = vm.vsock.listen(port)
			return err
		}
		l, err = vm.channel.Listen(port)
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
	return vm.channel.Dial(ctx, port)
}

// Wait returns when QEMU has ended.
func (vm *VM) Wait() error { return vm.lifecycle.Wait() }

// Close kills QEMU and ends all connections and listeners. The sockets stay in
// Config.Dir, which the caller removes.
func (vm *VM) Close() error {
	vm.lifecycle.Close()
	return vm.release()
}

// release closes all that the driver has open. It may be called again.
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
	for _, f := range []*os.File{vm.state, vm.share, vm.dir} {
		if f != nil {
			_ = f.Close()
		}
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
