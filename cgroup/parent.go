package cgroup

import (
	"fmt"
	"path"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fscommon"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// noLimit is more than a limit of memory can be: cgroup v1 shows a cgroup without one
// as the largest number of whole pages, in bytes.
const noLimit = 1 << 62

// ParentLimits are the limits of memory and CPU of this cgroup's parent, which the
// kubelet and podman make for a pod. A limit that is not set or cannot be read is nil.
// Limits of cgroups further up are ignored. This cgroup need not exist.
func (c *Cgroup) ParentLimits() *specs.LinuxResources {
	limits := &specs.LinuxResources{}
	if cgroups.IsCgroup2UnifiedMode() {
		dir := path.Dir(c.manager.Path(""))
		limits.Memory = memoryOf(dir, "memory.max")
		if text, err := cgroups.ReadFile(dir, "cpu.max"); err == nil {
			var quota, period int64
			if _, err := fmt.Sscan(text, &quota, &period); err == nil { // not "max 100000"
				limits.CPU = cpuOf(quota, period)
			}
		}
		return limits
	}
	if dir := c.manager.Path("memory"); dir != "" {
		limits.Memory = memoryOf(path.Dir(dir), "memory.limit_in_bytes")
	}
	if dir := c.manager.Path("cpu"); dir != "" {
		quota, quotaErr := fscommon.GetCgroupParamInt(path.Dir(dir), "cpu.cfs_quota_us")
		period, periodErr := fscommon.GetCgroupParamInt(path.Dir(dir), "cpu.cfs_period_us")
		if quotaErr == nil && periodErr == nil {
			limits.CPU = cpuOf(quota, period)
		}
	}
	return limits
}

func memoryOf(dir, file string) *specs.LinuxMemory {
	n, err := fscommon.GetCgroupParamUint(dir, file)
	if err != nil || n == 0 || n >= noLimit {
		return nil
	}
	limit := int64(n)
	return &specs.LinuxMemory{Limit: &limit}
}

func cpuOf(quota, period int64) *specs.LinuxCPU {
	if quota <= 0 || period <= 0 {
		return nil
	}
	length := uint64(period)
	return &specs.LinuxCPU{Quota: &quota, Period: &length}
}
