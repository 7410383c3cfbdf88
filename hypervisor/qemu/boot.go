package qemu

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"runch/hypervisor"
	"runch/hypervisor/process"
)

// vmmName is the driver's name in messages.
const vmmName = "QEMU"

// endTimeout is how long a QEMU may live on after its monitor has ended.
const endTimeout = 2 * time.Second

// Boot starts QEMU and returns when it has taken its command line and the CPUs
// run. Whatever goes wrong ends the process.
func (vm *VM) Boot(ctx context.Context) error {
	p, m, err := vm.launch()
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	defer m.Close() //nolint:errcheck // QEMU serves the next client then
	err = m.greet(ctx)
	if err == nil && vm.cfg.Restore != "" {
		err = m.restore(ctx, vm.state)
	}
	if err == nil {
		return nil
	}
	// Where the monitor ended, QEMU's own end, which says why, is near.
	select {
	case <-p.Done():
	case <-ctx.Done():
	case <-time.After(endTimeout):
	}
	select {
	case <-p.Done():
		err = p.Failure()
	default:
		p.Kill()
	}
	return fmt.Errorf("boot: %w", err)
}

// launch starts the process, once.
func (vm *VM) launch() (*process.Process, *monitor, error) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	switch {
	case vm.closed:
		return nil, nil, hypervisor.ErrClosed
	case vm.booted:
		return nil, nil, fmt.Errorf("%w: it was called before", hypervisor.ErrState)
	}
	vm.booted = true
	defer close(vm.began)
	if vm.vsock != nil {
		vm.plan.helloPort = vm.vsock.helloPort()
	}
	drain := func() { drainConsole(vm.console, vm.cfg.Console) }
	p, err := process.Start(process.Spec{
		VMM: vmmName, Args: append([]string{vm.cfg.Binary}, vm.plan.arguments()...), Dir: "/",
		Files: vm.files.Passed(), User: vm.user, Log: vm.cfg.Log, Drains: []func(){drain},
	})
	// QEMU's ends are closed here so that ours see its end.
	vm.files.Close()
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // it says all
	}
	if vm.vsock != nil {
		vm.served.Go(func() {
			<-p.Done()
			vm.vsock.close()
		})
	}
	vm.process = p
	m := vm.monitor
	vm.monitor = nil
	return p, m, nil
}

// drainConsole reads the console to its end, whatever the writer answers: a
// serial line that nobody reads stops the guest's kernel.
func drainConsole(console net.Conn, to io.Writer) {
	buf := make([]byte, 4096)
	for {
		n, err := console.Read(buf)
		if n > 0 && to != nil {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}
