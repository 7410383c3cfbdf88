package qemu

import (
	"fmt"
	"os"
	"path/filepath"

	"runch/hypervisor"
	"runch/hypervisor/channel"
	"runch/hypervisor/process"
	"runch/unixsocket"
)

// open opens everything that has a path, and makes the sockets and the memory's file.
func (vm *VM) open() error {
	if err := process.MakeRunDir(vm.cfg.Dir); err != nil {
		return err
	}
	var err error
	if vm.dir, err = unixsocket.OpenDir(vm.cfg.Dir); err != nil {
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

// openDevices opens the backends of the boot's devices, and the saved VM to restore.
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

// openMonitor makes the control socket, which QEMU inherits, and connects to it. QEMU
// answers once it runs, and the connection ends when QEMU ends.
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
	conn, err := unixsocket.DialAt(vm.dir, monitorSocket)
	if err != nil {
		return fmt.Errorf("connect to QEMU's monitor: %w", err)
	}
	vm.monitor = newMonitor(conn)
	return nil
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
