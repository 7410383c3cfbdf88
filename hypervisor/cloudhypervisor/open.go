package cloudhypervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"runch/hypervisor"
	"runch/hypervisor/process"
	"runch/unixsocket"
)

// open opens everything that has a path, and makes the sockets and pipes.
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
	// The VMM binds the vsock socket. That would fail if a killed VMM had left one.
	if err := os.Remove(filepath.Join(dir, vsockSocket)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make the VMM's directory: %w", err)
	}
	var err error
	if vm.run, err = os.Open(dir); err != nil {
		return fmt.Errorf("open the VMM's directory: %w", err)
	}
	vm.api.dir, err = unixsocket.OpenDir(vm.cfg.Dir)
	return err
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
	l, err := unixsocket.Listen(filepath.Join(vm.cfg.Dir, apiSocket))
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

// shareSocket is the name of a share's socket in the VMM's working directory.
func shareSocket(tag string) string { return tag + ".sock" }

// linkShare links virtiofsd's socket into the VMM's working directory, and allows the VMM's
// user to connect. It allows all users, but others have no access to the directories above.
func linkShare(dir string, s hypervisor.Share) error {
	path := filepath.Join(hypervisor.RunDir(dir), shareSocket(s.Tag))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("share %s: %w", s.Tag, err)
	}
	if err := os.Link(s.Socket, path); err != nil {
		return fmt.Errorf("share %s: %w", s.Tag, err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // #nosec G302 -- no other user gets into the directories above it
		return fmt.Errorf("share %s: %w", s.Tag, err)
	}
	return nil
}
