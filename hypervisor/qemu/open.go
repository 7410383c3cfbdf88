package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

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
	if err := vm.plan.openPayload(&vm.files, vm.user); err != nil {
		return err
	}
	if vm.memory, err = memoryFile("guest memory"); err != nil {
		return err
	}
	vm.plan.memory = vm.files.Take(vm.memory)
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
		var err error
		if vm.share, err = dialShare(s.Socket); err != nil {
			return err
		}
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
	vm.plan.incoming = true
	return nil
}

// passDevices lets QEMU inherit the backends of the share and of the interfaces, for its
// command line.
func (vm *VM) passDevices() {
	if vm.share != nil {
		vm.plan.share, vm.share = vm.files.Take(vm.share), nil
	}
	for _, nic := range vm.cfg.NICs {
		fds := make([]int, len(nic.Tap))
		for i, f := range nic.Tap {
			fds[i] = vm.files.Borrow(f)
		}
		vm.plan.taps = append(vm.plan.taps, fds)
	}
}

// openPayload opens what boots.
func (p *plan) openPayload(files *process.Files, user *syscall.Credential) error {
	kernel, err := process.OpenPayload("kernel", p.cfg.Kernel, user, p.cfg.Dir)
	if err != nil {
		return err
	}
	p.kernel = files.Take(kernel)
	if p.cfg.Initramfs == "" {
		return nil
	}
	initramfs, err := process.OpenPayload("initramfs", p.cfg.Initramfs, user, p.cfg.Dir)
	if err != nil {
		return err
	}
	p.initramfs = files.Take(initramfs)
	return nil
}

// openMonitor makes the control socket, which QEMU inherits, and connects to it. QEMU
// answers once it runs, and the connection ends when QEMU ends.
func (vm *VM) openMonitor() (err error) {
	vm.monitor, vm.plan.qmp, err = openMonitor(vm.dir, &vm.files, monitorSocket)
	return err
}

// openMonitor makes a control socket of this name in dir. files gets QEMU's end.
func openMonitor(dir *os.File, files *process.Files, name string) (*monitor, int, error) {
	fd, err := inheritListener(files, filepath.Join(dir.Name(), name))
	if err != nil {
		return nil, 0, err
	}
	conn, err := unixsocket.DialAt(dir, name)
	if err != nil {
		return nil, 0, fmt.Errorf("connect to QEMU's monitor: %w", err)
	}
	return newMonitor(conn), fd, nil
}

// inheritListener makes a listening socket at path for QEMU, and returns its descriptor there.
func inheritListener(files *process.Files, path string) (int, error) {
	l, err := unixsocket.Listen(path)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		return 0, fmt.Errorf("make QEMU's socket %s: %w", path, err)
	}
	return files.Take(file), nil
}

func (vm *VM) openTransport() error {
	var err error
	if !vm.templated() {
		vm.vsock, err = openVsock()
	}
	if err != nil {
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
