package sandbox

import (
	"fmt"
	"math"

	"runch/cgroup"
	"runch/config"
	"runch/hypervisor"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// mebibytes is an amount of memory in MiB, rounded up.
func mebibytes(bytes int64) int {
	const mib = 1 << 20
	n := bytes / mib
	if bytes%mib > 0 {
		n++
	}
	return int(n)
}

// sum adds two limits, which may be as large as an int64 can be: that is how some callers
// write "unlimited".
func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// steps rounds an amount of memory, in MiB, up to a multiple of hypervisor.HotplugStepMiB.
func steps(mib int) int {
	return (mib + hypervisor.HotplugStepMiB - 1) / hypervisor.HotplugStepMiB * hypervisor.HotplugStepMiB
}

// grown is the larger of two sizes, each value by itself.
func grown(a, b state.VMSize) state.VMSize {
	return state.VMSize{CPUs: max(a.CPUs, b.CPUs), MemoryMiB: max(a.MemoryMiB, b.MemoryMiB)}
}

// overhead is what is added to the host's limits of memory, in bytes.
func (r *Runtime) overhead() int64 {
	return int64(r.Config.OverheadMiB+r.Config.VMMOverheadMiB) << 20
}

// demand is what all members of a sandbox are to have.
type demand struct {
	// memory and quota are the sums of the limits, in bytes and in microseconds of
	// each period; shares is the sum of the weights.
	memory, quota int64
	cpus          int
	shares        uint64
	// anyMemory and anyCPUs say that a member has no such limit.
	anyMemory, anyCPUs bool
}

// period is the CPU period that the quotas of several members are told in, in
// microseconds.
const period = 100_000

// defaultShares is the CPU weight of a container whose spec names none: the kernel's
// default.
const defaultShares = 1024

// demandOf adds up the members, without those that have ended. A pod's own container only
// pauses: if it has no limit, it needs no default size either.
func demandOf(s *state.Sandbox) demand {
	var d demand
	for id, m := range s.Members {
		if m.Shim != (state.Process{}) && !m.Shim.Alive() {
			continue
		}
		pauses := s.Pod && id == s.Owner
		host := oci.HostPart{Resources: m.Resources}
		limit, limited := host.MemoryLimit()
		d.memory = sum(d.memory, max(0, limit))
		d.anyMemory = d.anyMemory || !limited && !pauses
		quota, limited := host.CPUQuota(period)
		d.quota += quota
		d.anyCPUs = d.anyCPUs || !limited && !pauses
		d.shares += sharesOf(m.Resources)
	}
	d.cpus = int((d.quota + period - 1) / period)
	return d
}

func sharesOf(r *specs.LinuxResources) uint64 {
	if r == nil || r.CPU == nil || r.CPU.Shares == nil || *r.CPU.Shares == 0 {
		return defaultShares
	}
	return *r.CPU.Shares
}

// sizeFor gives the size that a sandbox's VM has to have for its members. It is
// never less than that of the boot: a VMM cannot take that back. Members without a
// limit share the default size; a container that is alone and loses its limit keeps
// the VM that it has. A CPU quota is a limit and no promise, so it is no error if the VM
// cannot have that many CPUs. It is an error if the VM cannot have the memory, because a
// program may use as much as its limit allows, except that no program gets more than the
// host has.
func sizeFor(s *state.Sandbox) (state.VMSize, error) {
	d, size := demandOf(s), s.Now
	alone := len(s.Members) == 1 && !s.Pod
	if !alone || !d.anyCPUs {
		cpus := d.cpus
		if d.anyCPUs {
			cpus = max(cpus, s.Default.CPUs)
		}
		size.CPUs = min(max(cpus, s.Boot.CPUs), s.MaxCPUs)
	}
	if !alone || !d.anyMemory {
		mib := mebibytes(d.memory) + s.OverheadMiB
		if d.anyMemory {
			mib += s.Default.MemoryMiB
		}
		mib = min(mib, config.HostMemoryMiB())
		size.MemoryMiB = s.Boot.MemoryMiB + steps(max(0, mib-s.Boot.MemoryMiB))
	}
	if size.MemoryMiB > s.MaxMemoryMiB {
		return size, fmt.Errorf("the memory limit needs a VM of %d MiB, and it was made for at most %d (max_memory of the configuration)", size.MemoryMiB, s.MaxMemoryMiB)
	}
	return size, nil
}

// hostLimits are those of the host's cgroup that the VM is in: what its members are to
// have in all, with the overheads added. A VM cannot give back the memory that it was
// booted with: where the members' limit is lower, the difference is added too.
func hostLimits(s *state.Sandbox) cgroup.Limits {
	l := cgroup.Limits{Resources: totalResources(s), Overhead: s.Overhead}
	host := oci.HostPart{Resources: l.Resources}
	if limit, ok := host.MemoryLimit(); ok {
		if more := int64(s.Boot.MemoryMiB-s.OverheadMiB)<<20 - limit; more > 0 {
			l.Overhead += more
		}
	}
	return l
}

// totalResources are a lone container's own resources. In any other sandbox they are the
// sums of the members' memory and CPU limits, and of the owner's alone what cannot be
// summed up: the CPUs and disks of the host.
func totalResources(s *state.Sandbox) *specs.LinuxResources {
	owner := s.Members[s.Owner]
	if len(s.Members) == 1 && !s.Pod {
		return owner.Resources
	}
	d := demandOf(s)
	total := &specs.LinuxResources{}
	if owner.Resources != nil {
		*total = *owner.Resources
	}
	unlimited := int64(-1)
	total.Memory = &specs.LinuxMemory{Limit: &d.memory}
	if d.anyMemory || d.memory == 0 {
		total.Memory.Limit = &unlimited
	}
	cpu := specs.LinuxCPU{}
	if total.CPU != nil {
		cpu = specs.LinuxCPU{Cpus: total.CPU.Cpus, Mems: total.CPU.Mems}
	}
	// A pod's weight among others is that of its parent cgroup. Inside that, the VM needs
	// at least the weight of a container: with the 2 shares of a pause container it would
	// not boot on a busy host.
	shares, length := max(d.shares, defaultShares), uint64(period)
	cpu.Shares, cpu.Period, cpu.Quota = &shares, &length, &d.quota
	if d.anyCPUs || d.quota == 0 {
		cpu.Quota = &unlimited
	}
	total.CPU = &cpu
	return total
}
