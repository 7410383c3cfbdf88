package commands

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"runch/guest"
	"runch/hypervisor"
	"runch/sandbox"
	"runch/storage"
)

// host is what this machine has for virtual machines, for check and env. It is found
// out without starting any process.
type host struct {
	runtime *sandbox.Runtime

	vmm          *hypervisor.Choice
	vmmErr       error
	virtiofsd    *storage.Virtiofsd
	virtiofsdErr error
	image        *sandbox.Image
	manifest     *guest.Manifest
	imageErr     error
	// kvmErr says why KVM cannot run guests here, chErr why cloud-hypervisor is not found.
	kvmErr, chErr error
}

func lookAtHost(r *sandbox.Runtime) *host {
	h := &host{runtime: r}
	h.vmm, h.vmmErr = sandbox.ChooseVMM(r.Config)
	h.virtiofsd, h.virtiofsdErr = storage.FindVirtiofsd(r.Config.Virtiofsd)
	var accel hypervisor.Accel
	if h.vmm != nil {
		accel = h.vmm.Accel
	}
	if h.image, h.imageErr = r.FindImage(accel); h.imageErr == nil {
		h.manifest, h.imageErr = inspect(h.image)
	}
	h.kvmErr = hypervisor.ProbeKVM()
	_, h.chErr = hypervisor.Find(hypervisor.DriverCloudHypervisor, r.Config.CloudHypervisor)
	return h
}

// inspect reads the manifest beside the kernel. It returns nil without an error for an
// image without a manifest, which was put together by hand.
func inspect(image *sandbox.Image) (*guest.Manifest, error) {
	dir := filepath.Dir(image.Kernel)
	if filepath.Dir(image.Initramfs) != dir {
		return nil, nil
	}
	if _, err := os.Stat(filepath.Join(dir, guest.ManifestName)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return guest.Inspect(dir)
}

// openable returns an error if a device cannot be opened.
func openable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// debianRelease returns the release number of this host's Debian, empty on another
// distribution.
func debianRelease() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = strings.Trim(value, `"'`)
	}
	if values["ID"] != "debian" {
		return ""
	}
	return values["VERSION_ID"]
}
