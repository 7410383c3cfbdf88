package commands

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"runch/hypervisor"
	"runch/sandbox"
)

func (h *host) findings() []finding {
	list := []finding{
		privileges(), h.vmmFinding(), h.virtiofsdFinding(), h.imageFinding(), cgroups(),
		device("tun", "/dev/net/tun", "modprobe tun", "chmod 0666 /dev/net/tun", true, "containers have no network without it"),
		h.kvm(), h.cloudHypervisor(),
		device("vsock", "/dev/vhost-vsock", "modprobe vhost_vsock", joinKVM, false, "a serial port is used in its place"),
	}
	if program := h.runtime.Config.FallbackRuntime; program != "" {
		list = append(list, fallbackFinding(program))
	}
	return list
}

// fallbackFinding tells whether the fallback runtime is there. Containers in VMs do not
// need it.
func fallbackFinding(program string) finding {
	f := finding{Name: "fallback runtime"}
	found, err := sandbox.FindFallback(program)
	if err != nil {
		f.Detail = shorten(err.Error())
		return f
	}
	f.OK = true
	f.Detail = found + ": containers that ask for namespaces of the host are in no virtual machine"
	return f
}

func privileges() finding {
	f := finding{Name: "privileges", Needed: true, OK: os.Geteuid() == 0, Detail: "root"}
	if !f.OK {
		f.Detail = "mounts and namespaces are for root, here or in a user namespace, as podman makes one for who is not root"
		f.Fix = "podman unshare " + name + " check, or sudo " + name + " check"
	}
	return f
}

func (h *host) vmmFinding() finding {
	f := finding{Name: "hypervisor", Needed: true, OK: h.vmmErr == nil}
	if f.OK {
		f.Detail = fmt.Sprintf("%s (%s): %s", h.vmm.Path, h.vmm.Accel, h.vmm.Why)
		return f
	}
	f.Detail = shorten(h.vmmErr.Error())
	if errors.Is(h.vmmErr, hypervisor.ErrNotFound) && h.runtime.Config.Hypervisor != hypervisor.DriverCloudHypervisor {
		f.Fix = "apt-get install qemu-system-x86"
	}
	return f
}

// cloudHypervisor is never needed, as QEMU can take its place. Where the configuration
// requires it, the finding of the hypervisor says that it is missing.
func (h *host) cloudHypervisor() finding {
	f := finding{Name: "cloud-hypervisor", OK: h.chErr == nil}
	switch {
	case !f.OK:
		f.Detail = shorten(h.chErr.Error())
	case h.kvmErr != nil:
		f.Detail = "it is there, but needs KVM"
	default:
		f.Detail = "it is there"
	}
	return f
}

func (h *host) virtiofsdFinding() finding {
	f := finding{Name: "virtiofsd", Needed: true, OK: h.virtiofsdErr == nil}
	if f.OK {
		f.Detail = fmt.Sprintf("%s (%s)", h.virtiofsd.Path, h.virtiofsd.Flavour)
		return f
	}
	f.Detail = shorten(h.virtiofsdErr.Error())
	f.Fix = "apt-get install virtiofsd"
	if debianRelease() == "12" {
		f.Fix = "apt-get install qemu-system-common"
	}
	return f
}

func (h *host) imageFinding() finding {
	f := finding{Name: "guest image", Needed: true, OK: h.imageErr == nil}
	if f.OK {
		f.Detail = h.image.Kernel
		if h.manifest != nil {
			f.Detail = fmt.Sprintf("%s (%s)", filepath.Dir(h.image.Kernel), h.manifest.KernelRelease)
		}
		return f
	}
	f.Detail = shorten(h.imageErr.Error())
	f.Fix = name + " guest build --output " + imagePlace()
	return f
}

// imagePlace returns the directory in which a guest image is looked for first.
func imagePlace() string {
	exe, err := os.Executable()
	if err != nil {
		return "guest"
	}
	return filepath.Join(filepath.Dir(exe), "guest")
}

func cgroups() finding {
	f := finding{Name: "cgroup", Needed: true}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		f.OK, f.Detail = true, "version 2"
		return f
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		f.OK, f.Detail = true, "version 1"
		return f
	}
	f.Detail = "nothing is mounted on /sys/fs/cgroup"
	f.Fix = "mount -t cgroup2 none /sys/fs/cgroup"
	return f
}

// kvm is needed only where the configuration requires it: QEMU can emulate the CPU.
func (h *host) kvm() finding {
	c := h.runtime.Config
	f := finding{
		Name:   "kvm",
		Needed: c.Accel == string(hypervisor.AccelKVM) || c.Hypervisor == hypervisor.DriverCloudHypervisor,
		OK:     h.kvmErr == nil, Detail: "/dev/kvm runs guests",
	}
	if f.OK {
		return f
	}
	f.Detail = fmt.Sprintf("%s: the processor is emulated, which is slow", shorten(h.kvmErr.Error()))
	switch {
	case errors.Is(h.kvmErr, os.ErrPermission):
		f.Fix = joinKVM
	case errors.Is(h.kvmErr, os.ErrNotExist):
		f.Fix = "modprobe kvm_intel || modprobe kvm_amd"
	}
	return f
}

// joinKVM adds a user to the group of /dev/kvm and /dev/vhost-vsock on Debian.
const joinKVM = "adduser $USER kvm"

// device checks that a device of the kernel can be opened. The command load provides the
// device, and allow gives this user access to it. without says what its lack means.
func device(what, path, load, allow string, needed bool, without string) finding {
	f := finding{Name: what, Needed: needed, Detail: path}
	if err := openable(path); err != nil {
		f.Detail, f.Fix = fmt.Sprintf("%s: %s", shorten(err.Error()), without), load
		if errors.Is(err, os.ErrPermission) {
			f.Fix = allow
		}
		return f
	}
	f.OK = true
	return f
}
