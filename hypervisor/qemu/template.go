package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"runch/hypervisor"
	"runch/hypervisor/process"
)

// A template is a guest that was saved when it had opened its serial port, before its hello.
// It has no share and no interface, which QEMU cannot save or which are different for
// each VM: they are plugged in when a VM goes on from it. Each such VM has its own copy of
// the memory.
//
// With KVM a boot takes a fraction of a second, so there are templates for translated guests
// alone. They have no vsock: a saved guest would keep its context id.

// Sockets in Config.Dir of the VM that becomes a template.
const (
	templateMonitorSocket = "template-qmp.sock"
	templateAgentSocket   = "template-agent.sock"
)

// templated says that the VM can go on from a template.
func (vm *VM) templated() bool {
	return vm.cfg.Templates != "" && vm.cfg.Accel == hypervisor.AccelTCG && len(vm.cfg.Disks) == 0 && vm.cfg.Restore == ""
}

// useTemplate prepares the VM to go on from a template, which it makes if there is none. If
// it fails, the VM can still boot.
func (vm *VM) useTemplate(ctx context.Context) error {
	vm.announce()
	key, err := vm.templateKey()
	if err != nil {
		return err
	}
	store, err := openTemplates(vm.cfg.Templates)
	if err != nil {
		return err
	}
	t, err := store.open(key)
	if errors.Is(err, fs.ErrNotExist) {
		t, err = store.add(key, func(dir string) error { return vm.makeTemplate(ctx, dir) })
	}
	if err != nil {
		return err
	}
	defer t.memory.Close()
	if err := copyData(vm.memory, t.memory); err != nil {
		_ = t.state.Close()
		return errors.Join(fmt.Errorf("copy the template's memory: %w", err), vm.memory.Truncate(0))
	}
	vm.state, vm.template, vm.plan.bare, vm.plan.incoming = t.state, t.dir, true, true
	return nil
}

// DropTemplate removes the template that the VM went on from, if it did.
func (vm *VM) DropTemplate() error {
	if vm.template == "" {
		return nil
	}
	if err := os.RemoveAll(vm.template); err != nil {
		return fmt.Errorf("remove a template: %w", err)
	}
	return nil
}

// templateKey is equal for VMs that can go on from the same template: the command line and
// the files that QEMU opens by it are the same, and the host has not been booted since.
func (vm *VM) templateKey() (string, error) {
	cfg := vm.cfg
	cfg.Name = ""
	same := plan{cfg: &cfg, firmware: vm.plan.firmware, initramfs: min(vm.plan.initramfs, 1), announced: vm.plan.announced, bare: true}
	host, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("identify the host's boot: %w", err)
	}
	parts := append([]string{string(host)}, same.arguments()...)
	for _, path := range []string{cfg.Binary, cfg.Kernel, cfg.Initramfs, vm.plan.firmware} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", fmt.Errorf("identify a file of the VM: %w", err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return "", fmt.Errorf("identify a file of the VM: %s: no inode", path)
		}
		parts = append(parts, fmt.Sprint(stat.Dev, stat.Ino, stat.Size, stat.Mtim))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:]), nil
}

// makeTemplate boots a guest and saves it in dir.
func (vm *VM) makeTemplate(ctx context.Context, dir string) error {
	if deadline, ok := ctx.Deadline(); ok {
		// If it fails, half of the time is left to boot the VM itself.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Until(deadline)/2, errors.New("the guest has not opened its port in time"))
		defer cancel()
	}
	var files process.Files
	defer files.Close()
	p := plan{cfg: &vm.cfg, firmware: vm.plan.firmware, announced: vm.plan.announced, bare: true, listening: true}
	if err := p.openPayload(&files, vm.user); err != nil {
		return err
	}
	memory, err := memoryFile("template's memory")
	if err != nil {
		return err
	}
	defer memory.Close()
	p.memory = files.Borrow(memory)
	console, theirs, err := socketPair("console")
	if err != nil {
		return err
	}
	defer console.Close()
	p.console = files.Take(theirs)
	// As nobody connects to it, the guest waits to say its hello.
	if p.channel, err = inheritListener(&files, filepath.Join(vm.cfg.Dir, templateAgentSocket)); err != nil {
		return err
	}
	m, qmp, err := openMonitor(vm.dir, &files, templateMonitorSocket)
	if err != nil {
		return err
	}
	defer m.Close()
	p.qmp = qmp
	qemu, err := vm.start(&p, &files, console)
	if err != nil {
		return err
	}
	if err := m.saveAsTemplate(ctx, filepath.Join(dir, stateFile)); err != nil {
		return qemu.Abort(ctx, err, true)
	}
	qemu.Kill()
	return copyToNew(filepath.Join(dir, memoryOfTemplate), memory)
}

// saveAsTemplate waits until the guest has opened its port, and saves the VM without its
// memory.
func (m *monitor) saveAsTemplate(ctx context.Context, path string) error {
	if err := m.greet(ctx); err != nil {
		return err
	}
	_, err := m.await(ctx, func(e *message) bool {
		var port struct {
			ID   string `json:"id"`
			Open bool   `json:"open"`
		}
		return e.Event == "VSERPORT_CHANGE" && json.Unmarshal(e.Data, &port) == nil && port.ID == agentPort && port.Open
	})
	if err != nil {
		return err
	}
	if err := m.run(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := m.leaveOutMemory(ctx); err != nil {
		return err
	}
	return m.saveTo(ctx, path)
}
