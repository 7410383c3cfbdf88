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

// guestCID is the guest's context id. All guests can have the same one, because each VMM
// serves its guest's vsock itself.
const guestCID = 3

// Boot starts the VMM and returns when the CPUs run. Any error ends the process.
func (vm *VM) Boot(ctx context.Context) error {
	p, err := vm.launch()
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	err = vm.create(ctx)
	// By now the VMM has opened the console, or never will.
	closeFile(vm.consoleWriter)
	if err == nil {
		err = vm.lockRunDir()
	}
	if err == nil {
		return nil
	}
	var refused *hypervisor.RefusedError
	// If the API did not answer, the VMM is probably ending, and says why.
	return fmt.Errorf("boot: %w", p.Abort(ctx, err, !errors.As(err, &refused)))
}

// launch starts the process, once.
func (vm *VM) launch() (*process.Process, error) {
	return vm.lifecycle.Begin(func() (*process.Process, error) {
		run, err := process.Descriptor(vm.run)
		if err != nil {
			return nil, err
		}
		p, err := process.Start(process.Spec{
			VMM: vmmName, Args: append([]string{vm.cfg.Binary}, vm.plan.arguments()...),
			Name: fmt.Sprintf("%s (%s)", filepath.Base(vm.cfg.Binary), vm.cfg.Name),
			// By descriptor, because User has no access to the path. The child changes
			// directory before exec, which closes its copy of the descriptor.
			Dir:   process.FilePath(run),
			Files: vm.files.Passed(), User: vm.user, Log: vm.cfg.Log,
			Drains: []func(){
				func() { process.DrainConsole(vm.console, vm.cfg.Console) },
				func() { vm.events.relay(vm.eventsReader, vm.handleEvent) },
			},
		})
		// Close our copies of the VMM's ends, so that our ends see EOF when the VMM ends.
		vm.files.Close()
		if err != nil {
			return nil, err
		}
		vm.work.Go(vm.events.accept)
		vm.work.Go(func() {
			<-p.Done()
			vm.closeListeners()
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

// create makes the VM by the API and starts its CPUs.
func (vm *VM) create(ctx context.Context) error {
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
		// vm.create takes no descriptors, so taps come by vm.add-net before the boot.
		if err := vm.api.put(ctx, "vm.add-net", newNet(nic), nic.Tap...); err != nil {
			return err
		}
	}
	return vm.api.put(ctx, "vm.boot", nil)
}

// restore makes the VM from a saved one and resumes it.
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

// fileURL is a directory's URL for the VMM. The path may be relative to the VMM's working
// directory.
func fileURL(path string) string { return "file://" + path }

// config is the body of vm.create.
func (vm *VM) config() *vmConfig {
	c := &vm.cfg
	cpus := max(c.CPUs, 1)
	v := &vmConfig{
		CPUs: cpusConfig{Boot: cpus, Max: max(c.MaxCPUs, cpus)},
		// virtiofsd maps the guest's memory, so it has to be shared.
		Memory:  memoryConfig{Size: int64(c.MemoryMiB) << 20, Shared: true},
		Payload: payloadConfig{Kernel: process.FilePath(vm.plan.kernel), Cmdline: vm.cmdline()},
		Vsock:   vsockConfig{CID: guestCID, Socket: inRunDir(vsockSocket)},
		RNG:     rngConfig{Source: "/dev/urandom"},
		// The balloon is never inflated. The guest reports its free pages by it, and the VMM
		// gives them back to the host.
		Balloon: balloonConfig{FreePageReporting: true},
		Serial:  consoleConfig{Mode: "Off"},
		Console: consoleConfig{Mode: "File", File: inRunDir(consolePipe)},
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
		// For files that the VMM opens later: sockets for connections and shares, disks.
		v.LandlockRules = []landlockRule{{Path: ".", Access: "rw"}}
	}
	return v
}

// inRunDir is the path of a file in the VMM's working directory. It contains the directory,
// because the VMM makes a landlock rule for the path's parent.
func inRunDir(name string) string { return "./" + name }

// cmdline returns the kernel's command line. nr_uarts=0: there is no serial port to probe.
func (vm *VM) cmdline() string {
	params := append([]string{"console=hvc0", "8250.nr_uarts=0"}, vm.cfg.KernelParams()...)
	params = append(params, vm.cfg.Announced(transport.Guest{})...)
	return strings.Join(append(params, vm.cfg.Cmdline...), " ")
}

func newNet(nic hypervisor.NIC) netConfig {
	// No MTU: the VMM would set it on the tap by its name, which is that of a link in another
	// network namespace.
	return netConfig{ID: nic.ID, MAC: nic.MAC.String(), NumQueues: 2 * len(nic.Tap)}
}

func newDisk(d hypervisor.Disk) diskConfig {
	return diskConfig{ID: d.ID, Path: d.Path, ReadOnly: d.ReadOnly, ImageType: "Raw", Serial: d.ID[:min(len(d.ID), 20)]}
}

func newFS(s hypervisor.Share) fsConfig {
	// virtiofsd has one request queue, and the guest's mount fails with more.
	return fsConfig{ID: s.Tag, Tag: s.Tag, Socket: inRunDir(shareSocket(s.Tag)), NumQueues: 1, QueueSize: 1024}
}

// handleEvent kills the VMM when the guest resets, because the VMM would boot the guest again.
func (vm *VM) handleEvent(e event) {
	if !e.is("vm", "rebooting") {
		return
	}
	if p := vm.lifecycle.Process(); p != nil {
		p.Finish()
	}
}

// lockRunDir makes the caller the owner of the VMM's working directory again. After the boot
// the VMM creates nothing there, and the caller has to be able to trust the names in it.
func (vm *VM) lockRunDir() error {
	err := vm.run.Chown(os.Geteuid(), os.Getegid())
	if err = errors.Join(err, vm.run.Chmod(0o711)); err != nil {
		return fmt.Errorf("make the VMM's directory ours again: %w", err)
	}
	return nil
}
