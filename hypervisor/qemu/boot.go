package qemu

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"runch/hypervisor"
)

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
	if err == nil {
		return nil
	}
	// Where the monitor ended, QEMU's own end, which says why, is near.
	select {
	case <-p.done:
	case <-ctx.Done():
	case <-time.After(endTimeout):
	}
	select {
	case <-p.done:
		if p.err != nil {
			err = p.err
		} else {
			err = &hypervisor.ExitError{VMM: "QEMU", State: p.cmd.ProcessState, LastWords: p.words.lines()}
		}
	default:
		p.kill()
	}
	return fmt.Errorf("boot: %w", err)
}

// launch starts the process, once.
func (vm *VM) launch() (*process, *monitor, error) {
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
	p, err := start(vm.cfg.Binary, vm.plan.arguments(), vm.files.files, vm.user, vm.cfg.Log, drain)
	// QEMU's ends are closed here so that ours see its end.
	vm.files.close()
	if err != nil {
		return nil, nil, err
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

// kvmDevice is what QEMU opens by itself.
const kvmDevice = "/dev/kvm"

// userFor gives the identity that QEMU can run as: the wanted one, in the group
// of the device if that opens it, or nil, the caller's own, where the device is
// open to root alone.
func userFor(user *syscall.Credential, accel hypervisor.Accel) *syscall.Credential {
	if user == nil || accel != hypervisor.AccelKVM {
		return user
	}
	info, err := os.Stat(filepath.Clean(kvmDevice))
	if err != nil {
		return user
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return user
	}
	const readWrite = unix.S_IROTH | unix.S_IWOTH
	switch {
	case stat.Uid == user.Uid, stat.Mode&readWrite == readWrite:
		return user
	case stat.Mode>>3&readWrite == readWrite:
		with := *user
		if with.Gid != stat.Gid && !slices.Contains(with.Groups, stat.Gid) {
			with.Groups = append(slices.Clone(with.Groups), stat.Gid)
		}
		return &with
	default:
		return nil
	}
}
