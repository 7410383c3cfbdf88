package oci

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Placement says where a container's parts are in its sandbox's guest.
type Placement struct {
	// Shared is the container's part of the shared directory, a path in the guest.
	Shared string
	// SharedMemory is the directory in the guest with the file systems of
	// HostPart.SharedMemory, by their names.
	SharedMemory string
	// NetNS is the network namespace that the sandbox's containers join, a path in
	// the guest.
	NetNS string
	// Joined are the other namespaces that the container has in common with the
	// sandbox or one of its containers. The guest's spec names them without a path.
	Joined map[specs.LinuxNamespaceType]bool
}

// HostPart is the part of a spec that the host carries out: everything that concerns
// the host's files, namespaces, cgroups and security modules.
type HostPart struct {
	// Rootfs is the absolute path of the root filesystem to share.
	Rootfs string
	// RootfsReadonly is root.readonly. The guest makes its `/` read-only after
	// it has made the mount points in it, so the share itself has to stay
	// writable; this is for the shim's own view of the root filesystem.
	RootfsReadonly bool
	// Binds are the files and directories to share, in the order of the mounts.
	Binds []Bind
	// SharedMemory are what the guest mounts for itself in place of binds.
	SharedMemory []SharedMemory

	// LeftOut are the paths of the host's devices that a privileged container lists. It
	// gets all of the guest's devices instead.
	LeftOut []string

	// Namespaces are those of the spec, by type, each with the path on the host of
	// the one to join, or "" for a new one.
	Namespaces map[specs.LinuxNamespaceType]string

	// CgroupsPath is linux.cgroupsPath as the caller wrote it.
	CgroupsPath string
	// Resources are the limits that the host's cgroup is to hold, before the
	// guest's overhead is added to memory and pids: memory, cpu, cpuset, pids
	// and blockIO. cpuset and blockIO are held by the host alone, because they
	// name the host's CPUs and disks; nil when there are none.
	Resources *specs.LinuxResources

	// Hooks are all but startContainer, which runs in the guest; nil when
	// there are none.
	Hooks *specs.Hooks

	// SelinuxLabel is process.selinuxLabel, to be put on the VMM and virtiofsd.
	SelinuxLabel string
	// OOMScoreAdj is process.oomScoreAdj, nil if the spec has none: the shim and the VMM get 0 then.
	OOMScoreAdj *int
}

// Bind is a bind mount whose source is on the host, or an overlay of the host's.
type Bind struct {
	// Source is the absolute path on the host, as the caller wrote it:
	// symbolic links in it are to be followed when it is opened.
	Source string
	// Overlay are the options of an overlay that the host mounts in place of Source,
	// as mount(8) takes them; nil for a bind.
	Overlay []string
	// Destination is the path in the container.
	Destination string
	// GuestSource is where the source has to appear, relative to the
	// container's part of the shared directory: "mounts/<n>/<name>". <name> is
	// the source's own last element, since it shows in the guest's mountinfo.
	GuestSource string
	// ReadOnly is enforced by the host as well as by the guest.
	ReadOnly bool
	// ReadOnlyBelow is ReadOnly for the mounts below the source.
	ReadOnlyBelow bool
	// Recursive takes the mounts below the source along (rbind).
	Recursive bool
	// Slave lets mounts that the host makes below the source later appear in the
	// container (rslave).
	Slave bool
	// IDMap is how the owners of its files are mapped; nil where they are not.
	IDMap *IDMap
}

// MemoryLimit is the container's memory limit in bytes; ok is false when it
// has none.
func (h *HostPart) MemoryLimit() (bytes int64, ok bool) {
	if h.Resources == nil || h.Resources.Memory == nil || h.Resources.Memory.Limit == nil {
		return 0, false
	}
	// As for runc, zero is "not set" and -1 "unlimited".
	limit := *h.Resources.Memory.Limit
	return limit, limit > 0
}

// defaultPeriod is the kernel's CPU period where a spec gives a quota alone,
// in microseconds.
const defaultPeriod = 100_000

// CPUs is the number of virtual CPUs that the container's quota fills:
// ceil(quota/period). ok is false when it has no quota.
func (h *HostPart) CPUs() (n int, ok bool) {
	if h.Resources == nil || h.Resources.CPU == nil || h.Resources.CPU.Quota == nil {
		return 0, false
	}
	quota := *h.Resources.CPU.Quota
	if quota <= 0 {
		return 0, false
	}
	period := int64(defaultPeriod)
	if p := h.Resources.CPU.Period; p != nil && *p > 0 && *p <= maxPeriod {
		period = int64(*p)
	}
	cpus := quota / period
	if quota%period != 0 {
		cpus++
	}
	return int(cpus), true
}

// CPUQuota is the container's quota, converted to this period; both are in
// microseconds. ok is false when it has no quota.
func (h *HostPart) CPUQuota(period int64) (quota int64, ok bool) {
	if _, ok := h.CPUs(); !ok {
		return 0, false
	}
	own := int64(defaultPeriod)
	if p := h.Resources.CPU.Period; p != nil && *p > 0 && *p <= maxPeriod {
		own = int64(*p)
	}
	return *h.Resources.CPU.Quota * period / own, true
}

// maxPeriod is the longest CPU period that the kernel takes, in microseconds.
const maxPeriod = 1_000_000
