package cgroup

import (
	"math"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Limits are those of the cgroup of a container with these resources. Overhead is
// in bytes and is added to the limits of memory. Resources may be nil.
type Limits struct {
	Resources *specs.LinuxResources
	Overhead  int64
}

// resources are the limits in the library's form; the package comment says which are set.
func resources(l Limits) *cgroups.Resources {
	r := &cgroups.Resources{}
	if l.Resources == nil {
		return r
	}
	setMemory(r, l.Resources.Memory, l.Overhead)
	setCPU(r, l.Resources.CPU)
	setBlockIO(r, l.Resources.BlockIO)
	return r
}

// setMemory sets the limits of memory, with the overhead added.
func setMemory(r *cgroups.Resources, m *specs.LinuxMemory, overhead int64) {
	if m == nil {
		return
	}
	r.Memory = withOverhead(m.Limit, overhead)
	r.MemoryReservation = withOverhead(m.Reservation, overhead)
	r.MemorySwap = withOverhead(m.Swap, overhead)
	r.MemorySwappiness = m.Swappiness
}

// withOverhead adds the overhead to a limit. Zero means that the limit is not set, and a
// negative one that there is none.
func withOverhead(limit *int64, overhead int64) int64 {
	switch {
	case limit == nil:
		return 0
	case *limit <= 0:
		return *limit
	case *limit > math.MaxInt64-overhead:
		return math.MaxInt64
	}
	return *limit + overhead
}

// setCPU sets the values of the CPU unchanged.
func setCPU(r *cgroups.Resources, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if c.Shares != nil {
		r.CpuShares = *c.Shares
		r.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*c.Shares)
	}
	if c.Quota != nil {
		r.CpuQuota = *c.Quota
	}
	if c.Period != nil {
		r.CpuPeriod = *c.Period
	}
	if c.RealtimeRuntime != nil {
		r.CpuRtRuntime = *c.RealtimeRuntime
	}
	if c.RealtimePeriod != nil {
		r.CpuRtPeriod = *c.RealtimePeriod
	}
	r.CpuBurst, r.CPUIdle = c.Burst, c.Idle
	r.CpusetCpus, r.CpusetMems = c.Cpus, c.Mems
}

// setBlockIO sets the values of block I/O unchanged: they name devices of the host,
// which virtiofsd, in this cgroup, reads and writes.
func setBlockIO(r *cgroups.Resources, b *specs.LinuxBlockIO) {
	if b == nil {
		return
	}
	if b.Weight != nil {
		r.BlkioWeight = *b.Weight
	}
	if b.LeafWeight != nil {
		r.BlkioLeafWeight = *b.LeafWeight
	}
	for _, d := range b.WeightDevice {
		var weight, leaf uint16
		if d.Weight != nil {
			weight = *d.Weight
		}
		if d.LeafWeight != nil {
			leaf = *d.LeafWeight
		}
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, cgroups.NewWeightDevice(d.Major, d.Minor, weight, leaf))
	}
	r.BlkioThrottleReadBpsDevice = throttles(b.ThrottleReadBpsDevice)
	r.BlkioThrottleWriteBpsDevice = throttles(b.ThrottleWriteBpsDevice)
	r.BlkioThrottleReadIOPSDevice = throttles(b.ThrottleReadIOPSDevice)
	r.BlkioThrottleWriteIOPSDevice = throttles(b.ThrottleWriteIOPSDevice)
}

func throttles(list []specs.LinuxThrottleDevice) []*cgroups.ThrottleDevice {
	var out []*cgroups.ThrottleDevice
	for _, d := range list {
		out = append(out, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
	}
	return out
}
