package agent

import (
	"context"
	"encoding/json"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/types"

	"runch/agentproto"
)

// Stats tells what a container's cgroup has used.
func (a *Agent) Stats(_ context.Context, req *agentproto.StatsRequest) (*agentproto.StatsResponse, error) {
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	stats, err := c.cgroup.GetStats()
	if err != nil {
		if c.state() == stopped {
			return nil, errNotRunning
		}
		return nil, err
	}
	data, err := json.Marshal(statsEvent(stats))
	return &agentproto.StatsResponse{Stats: data}, err
}

// statsEvent gives statistics in the form of runc's events.
func statsEvent(cg *cgroups.Stats) *types.Stats {
	s := &types.Stats{CPUSet: types.CPUSet(cg.CPUSetStats), Hugetlb: make(map[string]types.Hugetlb)}
	s.Pids.Current, s.Pids.Limit = cg.PidsStats.Current, cg.PidsStats.Limit
	cpu := cg.CpuStats
	s.CPU.Usage = types.CpuUsage{
		Kernel: cpu.CpuUsage.UsageInKernelmode, User: cpu.CpuUsage.UsageInUsermode, Total: cpu.CpuUsage.TotalUsage,
		Percpu: cpu.CpuUsage.PercpuUsage, PercpuKernel: cpu.CpuUsage.PercpuUsageInKernelmode, PercpuUser: cpu.CpuUsage.PercpuUsageInUsermode,
	}
	s.CPU.Throttling = types.Throttling{
		Periods: cpu.ThrottlingData.Periods, ThrottledPeriods: cpu.ThrottlingData.ThrottledPeriods, ThrottledTime: cpu.ThrottlingData.ThrottledTime,
	}
	s.CPU.PSI = cpu.PSI
	memory := cg.MemoryStats
	s.Memory = types.Memory{
		Cache: memory.Cache, Usage: memoryEntry(memory.Usage), Swap: memoryEntry(memory.SwapUsage),
		Kernel: memoryEntry(memory.KernelUsage), KernelTCP: memoryEntry(memory.KernelTCPUsage), Raw: memory.Stats, PSI: memory.PSI,
	}
	blkio := cg.BlkioStats
	s.Blkio = types.Blkio{
		IoServiceBytesRecursive: blkioEntries(blkio.IoServiceBytesRecursive), IoServicedRecursive: blkioEntries(blkio.IoServicedRecursive),
		IoQueuedRecursive: blkioEntries(blkio.IoQueuedRecursive), IoServiceTimeRecursive: blkioEntries(blkio.IoServiceTimeRecursive),
		IoWaitTimeRecursive: blkioEntries(blkio.IoWaitTimeRecursive), IoMergedRecursive: blkioEntries(blkio.IoMergedRecursive),
		IoTimeRecursive: blkioEntries(blkio.IoTimeRecursive), SectorsRecursive: blkioEntries(blkio.SectorsRecursive), PSI: blkio.PSI,
	}
	for size, h := range cg.HugetlbStats {
		s.Hugetlb[size] = types.Hugetlb{Usage: h.Usage, Max: h.MaxUsage, Failcnt: h.Failcnt}
	}
	return s
}

func memoryEntry(d cgroups.MemoryData) types.MemoryEntry {
	return types.MemoryEntry{Limit: d.Limit, Usage: d.Usage, Max: d.MaxUsage, Failcnt: d.Failcnt}
}

func blkioEntries(list []cgroups.BlkioStatEntry) []types.BlkioEntry {
	entries := make([]types.BlkioEntry, 0, len(list))
	for _, e := range list {
		entries = append(entries, types.BlkioEntry(e))
	}
	return entries
}

// AwaitOOM waits until the kernel has killed more processes for lack of memory
// than the caller knows of, or until the container has ended.
func (a *Agent) AwaitOOM(ctx context.Context, req *agentproto.AwaitOOMRequest) (*agentproto.AwaitOOMResponse, error) {
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	watch, err := watchFile(c.cgroup.Path("") + "/memory.events")
	if err != nil {
		if c.state() == stopped {
			return &agentproto.AwaitOOMResponse{Kills: c.oomKills(), Ended: true}, nil
		}
		return nil, err
	}
	defer watch.close()
	for {
		// Count after the watch has begun: it reports every later kill.
		if kills := c.oomKills(); kills > req.GetKnown() {
			return &agentproto.AwaitOOMResponse{Kills: kills}, nil
		}
		select {
		case _, open := <-watch.changed:
			if !open {
				return nil, errWatch
			}
		case <-c.init.exited:
			return &agentproto.AwaitOOMResponse{Kills: c.oomKills(), Ended: true}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
