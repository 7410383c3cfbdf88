package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"runch/hypervisor"
	"runch/hypervisor/process"
	"runch/transport"
)

// guestCID is the guest's context id. It means something on this VMM's own vsock
// only, so all guests have the same.
const guestCID = 3

// Boot starts the VMM and returns when the CPUs run. Whatever goes wrong ends
// the process.
func (vm *VM) Boot(ctx context.Context) error {
	p, err := vm.launch()
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	err = vm.order(ctx)
	// Now the VMM has the console open, or never will.
	closeFile(vm.consoleWriter)
	if err == nil {
		err = vm.takeBack()
	}
	if err == nil {
		return nil
	}
	var refused *hypervisor.RefusedError
	// Where the API ended, the VMM's own end, which says why, is near.
	return fmt.Errorf("boot: %w", p.Abort(ctx, err, !errors.As(err, &refused)))
}

// launch starts the process, once.
func (vm *VM) launch() (*process.Process, error) {
	return vm.life.Begin(func() (*process.Process, error) {
		run, err := process.Number(vm.run)
		if err != nil {
			return nil, err
		}
		p, err := process.Start(process.Spec{
			VMM: vmmName, Args: append([]string{vm.cfg.Binary}, vm.plan.arguments()...),
			Name: fmt.Sprintf("%s (%s)", filepath.Base(vm.cfg.Binary), vm.cfg.Name),
			// By descriptor: User has no way to the directory. The child still has
			// ours when it goes there.
			Dir:   process.FilePath(run),
			Files: vm.files.Passed(), User: vm.user, Log: vm.cfg.Log,
			Drains: []func(){
				func() { process.DrainConsole(vm.console, vm.cfg.Console) },
				func() { vm.events.pass(vm.eventsReader, vm.see) },
			},
		})
		// The VMM's ends are closed here so that ours see its end.
		vm.files.Close()
		if err != nil {
			return nil, err
		}
		vm.work.Go(vm.events.accept)
		vm.work.Go(func() {
			<-p.Done()
			vm.hangUp()
		})
		return p, nil
	})
}

// arguments gives the VMM's command line without the program's name.
func (p *plan) arguments() []string {
	return []string{
		"--api-socket", "fd=" + strconv.Itoa(p.api),
		"--event-monitor", "fd=" + strconv.Itoa(p.events),
		"--seccomp", "true",
	}
}

// order makes the VM by the API and lets it run.
func (vm *VM) order(ctx context.Context) error {
	if _, err := vm.api.version(ctx); err != nil {
		return err
	}
	if vm.cfg.Restore != "" {
		return vm.restore(ctx)
	}
	if err := vm.api.put(ctx, "vm.create", vm.config()); err != nil {
		return err
	}
	for _, nic := range vm.cfg.NICs {
		// Only this request takes taps, also before the boot.
		if err := vm.api.put(ctx, "vm.add-net", newNet(nic), nic.Tap...); err != nil {
			return err
		}
	}
	return vm.api.put(ctx, "vm.boot", nil)
}

// restore lets the VM go on from a saved one.
func (vm *VM) restore(ctx context.Context) error {
	request := restoreRequest{Source: fileURL(vm.cfg.Restore)}
	var taps []*os.File
	for _, nic := range vm.cfg.NICs {
		request.NetFDs = append(request.NetFDs, restoreNet{ID: nic.ID, NumFDs: len(nic.Tap)})
		taps = append(taps, nic.Tap...)
	}
	if err := vm.api.put(ctx, "vm.restore", request, taps...); err != nil {
		return err
	}
	return vm.api.put(ctx, "vm.resume", nil)
}

// fileURL is what the VMM takes for a directory: a relative path is one from its
// working directory here, too.
func fileURL(path string) string { return "file://" + path }

// config is the VM as the VMM wants it.
func (vm *VM) config() *vmConfig {
	c := &vm.cfg
	cpus := max(c.CPUs, 1)
	v := &vmConfig{
		CPUs: cpusConfig{Boot: cpus, Max: max(c.MaxCPUs, cpus)},
		// virtiofsd reads and writes the guest's memory: it has to be shared.
		Memory:  memoryConfig{Size: int64(c.MemoryMiB) << 20, Shared: true},
		Payload: payloadConfig{Kernel: process.FilePath(vm.plan.kernel), Cmdline: vm.cmdline()},
		Vsock:   vsockConfig{CID: guestCID, Socket: here(vsockSocket)},
		RNG:     rngConfig{Source: "/dev/urandom"},
		Serial:  consoleConfig{Mode: "Off"},
		Console: consoleConfig{Mode: "File", File: here(consolePipe)},
	}
	if vm.plan.initramfs != 0 {
		v.Payload.Initramfs = process.FilePath(vm.plan.initramfs)
	}
	if more := c.MaxMemoryMiB - c.MemoryMiB; more > 0 {
		v.Memory.HotplugMethod, v.Memory.HotplugSize = "VirtioMem", int64(more)<<20
	}
	for _, disk := range c.Disks {
		v.Disks = append(v.Disks, newDisk(disk))
	}
	if c.Share != nil {
		v.FS = []fsConfig{newFS(*c.Share)}
	}
	if vm.plan.landlock {
		v.LandlockEnable = true
		// For the sockets of connections and shares, and for disks, to come.
		v.LandlockRules = []landlockRule{{Path: ".", Access: "rw"}}
	}
	return v
}

// here is a file of the VMM's working directory: the VMM wants to see that the
// path has a parent.
func here(name string) string { return "./" + name }

// cmdline gives the kernel's words. There is no serial port to look for.
func (vm *VM) cmdline() string {
	words := append([]string{"console=hvc0", "8250.nr_uarts=0"}, vm.cfg.KernelWords()...)
	words = append(words, vm.cfg.Announced(transport.Guest{})...)
	return strings.Join(append(words, vm.cfg.Cmdline...), " ")
}

func newNet(nic hypervisor.NIC) netConfig {
	// Without an MTU: the VMM would set the tap's, in the wrong namespace.
	return netConfig{ID: nic.ID, MAC: nic.MAC.String(), NumQueues: 2 * len(nic.Tap)}
}

func newDisk(d hypervisor.Disk) diskConfig {
	return diskConfig{ID: d.ID, Path: d.Path, ReadOnly: d.ReadOnly, ImageType: "Raw", Serial: d.ID[:min(len(d.ID), 20)]}
}

func newFS(s hypervisor.Share) fsConfig {
	// virtiofsd has one queue; more are refused when the guest mounts.
	return fsConfig{ID: s.Tag, Tag: s.Tag, Socket: here(shareSocket(s.Tag)), NumQueues: 1, QueueSize: 1024}
}

// see acts on an event. A guest that resets would be booted again in this process.
func (vm *VM) see(e event) {
	if !e.is("vm", "rebooting") {
		return
	}
	if p := vm.life.Process(); p != nil {
		p.End()
	}
}

// takeBack gives the VMM's directory back to the caller: what the VMM makes in it
// is made, and the caller follows the names there.
func (vm *VM) takeBack() error {
	err := vm.run.Chown(os.Geteuid(), os.Getegid())
	if err = errors.Join(err, vm.run.Chmod(0o711)); err != nil {
		return fmt.Errorf("take the VMM's directory back: %w", err)
	}
	return nil
}
