package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"

	"runch/hypervisor/process"
)

// vmmName is the driver's name in messages.
const vmmName = "QEMU"

// Boot starts QEMU and returns when it has accepted its command line and the CPUs
// run. If the VM can go on from a template and there is none, another QEMU makes that first.
// Any error ends the process.
func (vm *VM) Boot(ctx context.Context) error {
	if vm.templated() {
		if err := vm.useTemplate(ctx); err != nil {
			vm.log("boot without a template: %v", err)
		}
	}
	p, m, err := vm.launch()
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	defer m.Close()
	err = m.greet(ctx)
	if err == nil && vm.plan.incoming {
		err = vm.restore(ctx, m)
	}
	if err == nil {
		return nil
	}
	err = p.Abort(ctx, err, true)
	return fmt.Errorf("boot: %w", errors.Join(err, vm.DropTemplate()))
}

// launch starts the process, once.
func (vm *VM) launch() (p *process.Process, m *monitor, err error) {
	p, err = vm.lifecycle.Begin(func() (*process.Process, error) {
		if !vm.plan.bare {
			vm.announce()
			vm.passDevices()
		}
		p, err := vm.start(&vm.plan, &vm.files, vm.console)
		if err != nil {
			return nil, err
		}
		if vm.vsock != nil {
			vm.served.Go(func() {
				<-p.Done()
				vm.vsock.close()
			})
		}
		m, vm.monitor = vm.monitor, nil
		return p, nil
	})
	return p, m, err
}

// start runs QEMU with a plan and the files that it inherits, which are closed here, and
// reads its console.
func (vm *VM) start(p *plan, files *process.Files, console net.Conn) (*process.Process, error) {
	drain := func() { process.DrainConsole(console, vm.cfg.Console) }
	qemu, err := process.Start(process.Spec{
		VMM: vmmName, Args: append([]string{vm.cfg.Binary}, p.arguments()...), Dir: "/",
		Files: files.Passed(), User: vm.user, Log: vm.cfg.Log, Drains: []func(){drain},
	})
	// Close our copies of QEMU's ends, so that our ends see EOF when QEMU ends.
	files.Close()
	return qemu, err
}

// announce asks, once, for the kernel parameters that tell the guest how it reaches the host.
func (vm *VM) announce() {
	if vm.plan.announced == nil {
		vm.plan.announced = vm.cfg.Announced(vm.guest())
	}
}

// restore continues from the saved state, with the devices plugged in that a template does
// not have.
func (vm *VM) restore(ctx context.Context, m *monitor) error {
	if vm.plan.bare {
		if err := m.leaveOutMemory(ctx); err != nil {
			return err
		}
	}
	if err := m.migrate(ctx, "migrate-incoming", vm.state); err != nil {
		return fmt.Errorf("restore the VM: %w", err)
	}
	if vm.plan.bare {
		if err := vm.plugDevices(ctx, m); err != nil {
			return err
		}
	}
	return m.run(ctx, "cont", nil, nil)
}

// plugDevices plugs in the share and the interfaces. The guest sees them once its CPUs run.
func (vm *VM) plugDevices(ctx context.Context, m *monitor) error {
	h := &Handle{dir: vm.cfg.Dir, monitor: m, leaving: &vm.leaving}
	if vm.share != nil {
		err := h.addShare(ctx, *vm.cfg.Share, vm.share)
		// virtiofsd ends when nobody has the connection any more.
		_ = vm.share.Close()
		vm.share = nil
		if err != nil {
			return fmt.Errorf("plug in share %s: %w", vm.cfg.Share.Tag, err)
		}
	}
	for _, nic := range vm.cfg.NICs {
		if err := h.AddNIC(ctx, nic); err != nil {
			return err
		}
	}
	return nil
}

// log writes a line to where QEMU's own output goes.
func (vm *VM) log(format string, args ...any) {
	if vm.cfg.Log != nil {
		_, _ = fmt.Fprintf(vm.cfg.Log, "runch: "+format+"\n", args...)
	}
}
