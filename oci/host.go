package oci

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// GuestPaths says where in the guest things are that the guest spec names.
type GuestPaths struct {
	// Shared is where the sandbox's shared directory is mounted.
	Shared string
	// NetNS is the network namespace that the sandbox's containers join.
	NetNS string
}

// HostPart is what the host does of a spec: everything that concerns its own
// files, namespaces, cgroups and security modules.
type HostPart struct {
	// Rootfs is the absolute path of the root filesystem to share.
	Rootfs string
	// RootfsReadonly is root.readonly. The guest makes its `/` read-only after
	// it has made the mount points in it, so the share itself has to stay
	// writable; this is for the shim's own view of the root filesystem.
	RootfsReadonly bool
	// Binds are the files and directories to share, in the order of the mounts.
	Binds []Bind

	// NetNSPath is the network namespace to join; empty means NewNetNS.
	NetNSPath string
	// NewNetNS, NewIPC and NewUTS say which namespaces the shim is made with.
	NewNetNS, NewIPC, NewUTS bool

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
	// MountLabel is linux.mountLabel.
	MountLabel string
	// ApparmorProfile is process.apparmorProfile. See Split for what becomes of it.
	ApparmorProfile string
	// OOMScoreAdj is process.oomScoreAdj, nil when the caller's stays.
	OOMScoreAdj *int
}

// Bind is a bind mount whose source is on the host.
type Bind struct {
	// Source is the absolute path on the host, as the caller wrote it:
	// symbolic links in it are to be followed when it is opened.
	Source string
	// Destination is the path in the container.
	Destination string
	// GuestSource is where the source has to appear, relative to the
	// container's part of the shared directory: "mounts/<n>/<name>". <name> is
	// the source's own last element, since it shows in the guest's mountinfo.
	GuestSource string
	// Dir tells a directory from anything else.
	Dir bool
	// ReadOnly is enforced by the host as well as by the guest.
	ReadOnly bool
	// ReadOnlyBelow is ReadOnly for the mounts below the source.
	ReadOnlyBelow bool
	// Recursive takes the mounts below the source along (rbind).
	Recursive bool
	// IDMap is how the owners of its files are mapped; nil where they are not.
	IDMap *IDMap
	// Options are the mount's options as the caller wrote them.
	Options []string
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

// maxPeriod is the longest CPU period that the kernel takes, in microseconds.
const maxPeriod = 1_000_000
