package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"runch/cgroup"
	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestimage"
	"runch/state"
	"runch/storage"
	"runch/unixsocket"
)

// bareGuest is a guest without runch: the same VMM with the same kernel and as much memory as a container's. Its root
// is shared by a virtiofsd with its default settings. Its network interface is a tap that leads only to the host.
type bareGuest struct {
	raw  *rawVM
	root string
	// cgroup is made like a container's, as the host's scheduler divides CPU time between cgroups.
	cgroup *cgroup.Cgroup
	// virtiofsd is the pid of virtiofsd.
	virtiofsd int
	// end says where its tap is, nil for a guest without one.
	end *end
	// work are the workload's arguments.
	work []string
}

// addBare adds the guest, with as many CPUs and as much memory as the VM of a container of runch.
func (b *ioBench) addBare(ctx context.Context) error {
	record, err := b.sizeOfContainer(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "bare")
	g := &bareGuest{
		raw:  &rawVM{env: b.env, record: record, dir: filepath.Join(dir, "vm")},
		root: filepath.Join(dir, "rootfs"), work: b.fileWork(true, onRootfs),
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := copyRootfs(ctx, b.options.rootfs, g.root); err != nil {
		return err
	}
	if err := b.fill(g.root, ""); err != nil {
		return err
	}
	if b.links != nil {
		g.end = b.links.bare()
		g.work = []string{partNetwork, g.end.server}
	}
	if g.cgroup, err = cgroup.New(filepath.Join("/", cgroupParent, "bare"), false, cgroup.Limits{}, nil); err != nil {
		return err
	}
	initramfs := filepath.Join(dir, "initramfs")
	if err := guestimage.WithInit(initramfs, b.env.Initramfs.Path, b.options.workload); err != nil {
		return err
	}
	env := *b.env
	env.Initramfs.Path = initramfs
	g.raw.env = &env
	b.contenders = append(b.contenders, &contender{
		name: bareVMM, root: g.root, works: []func(context.Context) error{g.run}, remove: g.cgroup.Destroy,
	})
	return nil
}

// sizeOfContainer creates a container, returns the record of its sandbox, and removes it.
func (b *ioBench) sizeOfContainer(ctx context.Context) (record *state.Sandbox, err error) {
	c := contents{spec: b.options.spec, rootfs: "build/rootfs/busybox", args: []string{"true"}}
	r, err := newRuntime(ctx, ours, b.options.runch, filepath.Join(b.dir, "sized"), c)
	if err != nil {
		return nil, err
	}
	if _, err := r.do(ctx, "create"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.remove(context.WithoutCancel(ctx))) }()
	return r.sandboxRecord()
}

// run boots the guest and waits until it has powered off.
func (g *bareGuest) run(ctx context.Context) (err error) {
	if err := os.Mkdir(g.raw.dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(g.raw.dir)) }()
	socket := filepath.Join(g.raw.dir, "fs.sock")
	stop, err := g.serve(ctx, socket)
	if err != nil {
		return err
	}
	defer stop()
	cfg := g.raw.config(socket)
	cfg.MemoryMiB = max(g.raw.record.Boot.MemoryMiB, g.raw.record.Now.MemoryMiB)
	cfg.MaxMemoryMiB = cfg.MemoryMiB
	console := new(bytes.Buffer)
	cfg.Console = console
	address := "-"
	if g.end != nil {
		tap, err := g.end.openTap(ctx)
		if err != nil {
			return err
		}
		defer tap.Close()
		address = g.end.address
		cfg.NICs = []hypervisor.NIC{{ID: "eth0", MAC: []byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Tap: []*os.File{tap}}}
	}
	cfg.Cmdline = append(append(cfg.Cmdline, "--", "guest", address), g.work...)
	if err := g.life(ctx, cfg); err != nil {
		return fmt.Errorf("%w: %s", err, console)
	}
	if _, err := os.Stat(filepath.Join(g.root, "result.json")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the guest has failed: %s", console)
	}
	return nil
}

func (g *bareGuest) life(ctx context.Context, cfg *hypervisor.Config) (err error) {
	vm, err := g.raw.newVM(cfg) //nolint:contextcheck // Close ends it, not a context
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if err := vm.Boot(ctx); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = vm.Close() })()
	vmm, err := ownVMM()
	if err != nil {
		return err
	}
	return errors.Join(cgroup.Join(g.virtiofsd, vmm.pid), vm.Wait(), ctx.Err())
}

// serve starts virtiofsd with its default settings.
func (g *bareGuest) serve(ctx context.Context, socket string) (stop func(), err error) {
	listener, err := unixsocket.Listen(socket)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	passed, err := listener.File()
	if err != nil {
		return nil, err
	}
	defer passed.Close()
	args := []string{"--fd=3", "--shared-dir=" + g.root, "--sandbox=chroot", "--log-level=warn"}
	if storage.Flavour(g.raw.env.Virtiofsd.Kind) == storage.FlavourC {
		args = []string{"-f", "--fd=3", "-o", "source=" + g.root, "-o", "sandbox=chroot", "-o", "log_level=warn"}
	}
	cmd := exec.CommandContext(ctx, g.raw.env.Virtiofsd.Path, args...)
	cmd.ExtraFiles = []*os.File{passed}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	g.virtiofsd = cmd.Process.Pid
	if err := g.cgroup.Apply(g.virtiofsd); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}
