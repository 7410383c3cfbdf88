package sandbox

import (
	"runch/cgroup"
	"runch/config"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// sizing is what is known of a sandbox when its VM is made.
type sizing struct {
	// pod is what the caller says that the pod is to have.
	pod oci.PodSize
	// own are the limits of the container that the sandbox belongs to, nil for none.
	own *specs.LinuxResources
	// parent are those of the cgroup that the pod's cgroups are in, nil for none.
	parent *specs.LinuxResources
}

// sizingOf looks at the parent of the sandbox's cgroup and at the annotations of its
// spec.
func (r *Runtime) sizingOf(cgroupsPath string, annotations map[string]string) (sizing, error) {
	group, _, err := r.newCgroup(cgroupsPath, cgroup.Limits{}, nil)
	if err != nil {
		return sizing{}, err
	}
	pod, err := oci.PodSizeOf(annotations)
	return sizing{pod: pod, parent: group.ParentLimits()}, err
}

// leastMemoryMiB is the memory that containers without limits get at least, even if the
// cgroup around the pod has no room for it: a guest with less is of no use.
const leastMemoryMiB = 64

// standard is the size for containers without limits: that of the configuration, or
// what the parent's limits leave.
func (s sizing) standard(cfg *config.Config) state.VMSize {
	size := state.VMSize{CPUs: cfg.CPUs, MemoryMiB: cfg.MemoryMiB}
	parent := oci.HostPart{Resources: s.parent}
	if cpus, ok := parent.CPUs(); ok {
		size.CPUs = min(cpus, max(cfg.MaxCPUs, cfg.CPUs))
	}
	if limit, ok := parent.MemoryLimit(); ok {
		left := mebibytes(limit) - s.overheadMiB(cfg) - cfg.VMMOverheadMiB
		size.MemoryMiB = min(max(left, leastMemoryMiB), max(cfg.MaxMemoryMiB, cfg.MemoryMiB))
	}
	return size
}

// first is what the containers are to have when the VM is made. Each value is the pod's,
// else that of the owner's limits, else the standard one. A limit above the memory and
// swap of the host counts as these: no program gets more.
func (s sizing) first(cfg *config.Config) state.VMSize {
	size := s.standard(cfg)
	for _, r := range []*specs.LinuxResources{s.own, s.pod.Resources} {
		limits := oci.HostPart{Resources: r}
		if cpus, ok := limits.CPUs(); ok {
			size.CPUs = cpus
		}
		if limit, ok := limits.MemoryLimit(); ok {
			size.MemoryMiB = min(mebibytes(limit), config.HostMemoryMiB()-s.overheadMiB(cfg))
		}
	}
	return size
}

// overheadMiB is the memory that the guest has for itself: more than configured where
// the cluster has set more aside for the VM.
func (s sizing) overheadMiB(cfg *config.Config) int {
	return max(cfg.OverheadMiB, mebibytes(s.pod.Overhead)-cfg.VMMOverheadMiB)
}

// planVM plans the VM of the container's own sandbox.
func (c *creation) planVM() error {
	annotations := c.o.Bundle.Spec.Annotations
	size, err := c.r.sizingOf(c.r.cgroupsPath(c.host, c.o.ID), annotations)
	if err != nil {
		return err
	}
	size.own = c.host.Resources
	c.vm, err = c.r.vmFor(c.host.SelinuxLabel, size, annotations)
	return err
}
