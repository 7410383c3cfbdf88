package cgroup

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestResources(t *testing.T) {
	const overhead = 1000
	yes := true
	i := func(v int64) *int64 { return &v }
	u := func(v uint64) *uint64 { return &v }
	tests := map[string]struct {
		in   *specs.LinuxResources
		want cgroups.Resources
	}{
		"none":  {nil, cgroups.Resources{}},
		"empty": {&specs.LinuxResources{}, cgroups.Resources{}},
		"memory": {
			&specs.LinuxResources{Memory: &specs.LinuxMemory{
				Limit: i(5000), Reservation: i(4000), Swap: i(6000), Swappiness: u(10), DisableOOMKiller: &yes,
			}},
			cgroups.Resources{Memory: 6000, MemoryReservation: 5000, MemorySwap: 7000, MemorySwappiness: u(10)},
		},
		"memory without limits": {
			&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: i(-1), Swap: i(-1), Reservation: i(0)}},
			cgroups.Resources{Memory: -1, MemorySwap: -1},
		},
		"memory beyond all limits": {
			&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: i(math.MaxInt64)}},
			cgroups.Resources{Memory: math.MaxInt64},
		},
		"processor": {
			&specs.LinuxResources{CPU: &specs.LinuxCPU{
				Shares: u(1024), Quota: i(-1), Period: u(5), Burst: u(6), RealtimeRuntime: i(7), RealtimePeriod: u(8),
				Cpus: "0-1", Mems: "0", Idle: i(1),
			}},
			cgroups.Resources{
				CpuShares: 1024, CpuWeight: 100, CpuQuota: -1, CpuPeriod: 5, CpuBurst: u(6),
				CpuRtRuntime: 7, CpuRtPeriod: 8, CpusetCpus: "0-1", CpusetMems: "0", CPUIdle: i(1),
			},
		},
		"what is the guest's": {
			&specs.LinuxResources{
				Pids:           &specs.LinuxPids{Limit: i(20)},
				Devices:        []specs.LinuxDeviceCgroup{{Access: "rwm"}},
				HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1}},
				Network:        &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "eth0"}}},
				Rdma:           map[string]specs.LinuxRdma{"mlx5": {}},
				Unified:        map[string]string{"memory.max": "5000"},
			},
			cgroups.Resources{},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := resources(Limits{Resources: tt.in, Overhead: overhead})
			if d := cmp.Diff(&tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestBlockIO(t *testing.T) {
	weight, leaf := uint16(500), uint16(300)
	device := specs.LinuxWeightDevice{Weight: &weight}
	device.Major, device.Minor = 8, 1
	throttle := specs.LinuxThrottleDevice{Rate: 1 << 20}
	throttle.Major = 8
	got := resources(Limits{Resources: &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{
		Weight: &weight, LeafWeight: &leaf, WeightDevice: []specs.LinuxWeightDevice{device},
		ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle},
	}}})
	if got.BlkioWeight != 500 || got.BlkioLeafWeight != 300 || got.BlkioWeightDevice[0].WeightString() != "8:1 500" ||
		got.BlkioThrottleReadBpsDevice[0].String() != "8:0 1048576" {
		t.Errorf("got %+v", got)
	}
}
