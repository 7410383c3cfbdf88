package qemu

import (
	"context"
	"fmt"

	"runch/hypervisor/process"
)

// vmmName is the driver's name in messages.
const vmmName = "QEMU"

// Boot starts QEMU and returns when it has accepted its command line and the CPUs
// run. Any error ends the process.
func (vm *VM) Boot(ctx context.Context) error {
	p, m, err := vm.launch()
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	defer m.Close()
	err = m.greet(ctx)
	if err == nil && vm.cfg.Restore != "" {
		err = m.restore(ctx, vm.state)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("boot: %w", p.Abort(ctx, err, true))
}

// launch starts the process, once.
func (vm *VM) launch() (p *process.Process, m *monitor, err error) {
	p, err = vm.lifecycle.Begin(func() (*process.Process, error) {
		vm.plan.announced = vm.cfg.Announced(vm.guest())
		drain := func() { process.DrainConsole(vm.console, vm.cfg.Console) }
		p, err := process.Start(process.Spec{
			VMM: vmmName, Args: append([]string{vm.cfg.Binary}, vm.plan.arguments()...), Dir: "/",
			Files: vm.files.Passed(), User: vm.user, Log: vm.cfg.Log, Drains: []func(){drain},
		})
		// Close our copies of QEMU's ends, so that our ends see EOF when QEMU ends.
		vm.files.Close()
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
