package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"runch/config"
	"runch/guest"
	"runch/hypervisor"
	"runch/shimproto"
	"runch/state"
	"runch/storage"
)

// ErrNoImage says that there is no guest image where one is looked for.
var ErrNoImage = errors.New("no guest image: build one with `runch guest build`")

// Image is a guest image: a kernel and an initramfs.
type Image struct {
	Kernel, Initramfs string
}

// FindImage gives the image to boot: what the configuration names, else what is
// in ImageDir.
func (r *Runtime) FindImage(accel hypervisor.Accel) (*Image, error) {
	image := &Image{Kernel: r.Config.Kernel, Initramfs: r.Config.Initramfs}
	if image.Kernel == "" || image.Initramfs == "" {
		dir, err := ImageDir()
		if err != nil {
			return nil, err
		}
		if image.Kernel == "" {
			image.Kernel = kernelIn(dir, accel)
		}
		if image.Initramfs == "" {
			image.Initramfs = filepath.Join(dir, guest.InitramfsName)
		}
	}
	for what, path := range map[string]string{"kernel": image.Kernel, "initramfs": image.Initramfs} {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("find the guest's %s: %w", what, err)
		}
		if !info.Mode().IsRegular() || info.Size() == 0 {
			return nil, fmt.Errorf("find the guest's %s: %s is not a file, or is empty", what, path)
		}
	}
	return image, nil
}

// kernelIn gives the kernel of an image. For TCG it is the uncompressed one, if there is
// one: to unpack a kernel takes a second of translated code. What unpacking allows for,
// to relocate the kernel, is off there (nokaslr in the QEMU driver).
func kernelIn(dir string, accel hypervisor.Accel) string {
	unpacked := filepath.Join(dir, guest.VmlinuxName)
	if _, err := os.Stat(unpacked); err == nil && accel == hypervisor.AccelTCG {
		return unpacked
	}
	return filepath.Join(dir, guest.KernelName)
}

// ImageDir gives the directory of the image that goes with this program: the folder
// guest beside it, else the one under its prefix's share; for a copy that was put
// somewhere else, the one that is installed.
func ImageDir() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return imageIn(imagePlaces(exe))
}

// imagePlaces are where an image for the program at this path is looked for, in this
// order.
func imagePlaces(exe string) []string {
	bin := filepath.Dir(exe)
	places := []string{filepath.Join(bin, "guest")}
	for _, prefix := range []string{filepath.Dir(bin), "/usr/local", "/usr"} {
		if dir := filepath.Join(prefix, "share", "runch", "guest"); !slices.Contains(places, dir) {
			places = append(places, dir)
		}
	}
	return places
}

func imageIn(places []string) (string, error) {
	for _, dir := range places {
		if _, err := os.Stat(filepath.Join(dir, guest.InitramfsName)); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w (looked in %s)", ErrNoImage, strings.Join(places, ", "))
}

// plannedVM is a VM to be made.
type plannedVM struct {
	shimproto.VM
	// standard is the size that containers without limits have in it together.
	standard state.VMSize
	// overheadMiB is the part of the memory that is for the guest itself.
	overheadMiB int
}

// vmFor plans the VM of a sandbox: for what its containers are to have and the guest's
// overhead. annotations are those of the container that it is made for.
func (r *Runtime) vmFor(selinuxLabel string, size sizing, annotations map[string]string) (*plannedVM, error) {
	cfg, err := r.Config.Annotate(annotations)
	if err != nil {
		return nil, err
	}
	choice, err := ChooseVMM(cfg)
	if err != nil {
		return nil, err
	}
	image, err := r.FindImage(choice.Accel)
	if err != nil {
		return nil, err
	}
	server, err := storage.FindVirtiofsd(r.Config.Virtiofsd)
	if err != nil {
		return nil, err
	}
	if choice.Slow {
		r.Log.Debug("guests are emulated, which is slow", "hypervisor", choice.Driver, "reason", choice.Why)
	}
	vm := &plannedVM{standard: size.standard(cfg), overheadMiB: size.overheadMiB(cfg), VM: shimproto.VM{
		Driver: choice.Driver, Binary: choice.Path, Accel: choice.Accel, Kernel: image.Kernel, Initramfs: image.Initramfs,
		Cmdline: cfg.KernelParams, VMSize: size.first(cfg),
		Templates:   cfg.TemplateDir(),
		NoHugePages: cfg.HugePages == config.HugePagesNever, BootTimeout: cfg.BootTimeout, Virtiofsd: *server, SelinuxLabel: selinuxLabel,
	}}
	vm.MemoryMiB += vm.overheadMiB
	vm.MaxCPUs = max(vm.CPUs, cfg.MaxCPUs)
	if vm.Accel == hypervisor.AccelTCG {
		// Linux ignores CPUs that may be plugged later unless it knows its hypervisor,
		// which it does not with TCG.
		vm.MaxCPUs = vm.CPUs
	}
	vm.MaxMemoryMiB = vm.MemoryMiB + steps(max(0, cfg.MaxMemoryMiB-vm.MemoryMiB))
	if os.Geteuid() == 0 {
		vm.User = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return vm, nil
}

// ChooseVMM gives the VMM that a configuration leads to on this host.
func ChooseVMM(c *config.Config) (*hypervisor.Choice, error) {
	return hypervisor.Choose(hypervisor.Options{
		Driver: c.Hypervisor, Accel: c.Accel, CloudHypervisor: c.CloudHypervisor, QEMU: c.QEMU,
	})
}

// nobody is the user and group whom the VMM runs as: the kernel's overflow id,
// which owns nothing.
const nobody = 65534
