package sandbox

import (
	"math"
	"testing"

	"runch/config"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// A VM is made for what is said of its pod, else for its own container's limits, else
// for what the cgroup around the pod leaves, else as configured; each value by itself.
func TestFirstSize(t *testing.T) {
	cfg := &config.Config{MemoryMiB: 1024, CPUs: 1, OverheadMiB: 128, VMMOverheadMiB: 256, MaxCPUs: 4, MaxMemoryMiB: 8192}
	limits := func(mib, quota int64) *specs.LinuxResources {
		return &specs.LinuxResources{Memory: memoryOf(mib << 20), CPU: &specs.LinuxCPU{Quota: &quota}}
	}
	for name, tt := range map[string]struct {
		sizing          sizing
		first, standard state.VMSize
		overheadMiB     int
	}{
		"nothing is said": {
			sizing{}, state.VMSize{CPUs: 1, MemoryMiB: 1024}, state.VMSize{CPUs: 1, MemoryMiB: 1024}, 128,
		},
		"its own container": {
			sizing{own: limits(256, 150_000)}, state.VMSize{CPUs: 2, MemoryMiB: 256}, state.VMSize{CPUs: 1, MemoryMiB: 1024}, 128,
		},
		"the pod before its own container": {
			sizing{own: limits(16, 1000), pod: oci.PodSize{Resources: limits(512, 250_000)}},
			state.VMSize{CPUs: 3, MemoryMiB: 512},
			state.VMSize{CPUs: 1, MemoryMiB: 1024},
			128,
		},
		"the pod says nothing of memory": {
			sizing{own: limits(64, 0), pod: oci.PodSize{Resources: limits(0, 250_000)}},
			state.VMSize{CPUs: 3, MemoryMiB: 64},
			state.VMSize{CPUs: 1, MemoryMiB: 1024},
			128,
		},
		"more set aside for the VM than it has by default": {
			sizing{pod: oci.PodSize{Resources: limits(512, 0), Overhead: 600 << 20}},
			state.VMSize{CPUs: 1, MemoryMiB: 512},
			state.VMSize{CPUs: 1, MemoryMiB: 1024},
			600 - 256,
		},
		"less": {
			sizing{pod: oci.PodSize{Resources: limits(512, 0), Overhead: 100 << 20}},
			state.VMSize{CPUs: 1, MemoryMiB: 512},
			state.VMSize{CPUs: 1, MemoryMiB: 1024},
			128,
		},
		"more than the host has": {
			sizing{own: limits(math.MaxInt64>>20, 0)},
			state.VMSize{CPUs: 1, MemoryMiB: config.HostMemoryMiB() - 128},
			state.VMSize{CPUs: 1, MemoryMiB: 1024},
			128,
		},
		"what the cgroup around it leaves": {
			sizing{parent: limits(2048, 200_000)},
			state.VMSize{CPUs: 2, MemoryMiB: 2048 - 128 - 256},
			state.VMSize{CPUs: 2, MemoryMiB: 2048 - 128 - 256},
			128,
		},
		"a cgroup around it that has no room": {
			sizing{parent: limits(100, 0)}, state.VMSize{CPUs: 1, MemoryMiB: 64}, state.VMSize{CPUs: 1, MemoryMiB: 64}, 128,
		},
		"a cgroup around it that is larger than a VM may be": {
			sizing{parent: limits(1<<20, 6_400_000)}, state.VMSize{CPUs: 4, MemoryMiB: 8192}, state.VMSize{CPUs: 4, MemoryMiB: 8192}, 128,
		},
		"its own limits in such a cgroup": {
			sizing{own: limits(256, 0), parent: limits(2048, 0)},
			state.VMSize{CPUs: 1, MemoryMiB: 256},
			state.VMSize{CPUs: 1, MemoryMiB: 2048 - 128 - 256},
			128,
		},
	} {
		if got := tt.sizing.first(cfg); got != tt.first {
			t.Errorf("%s: made with %v, want %v", name, got, tt.first)
		}
		if got := tt.sizing.standard(cfg); got != tt.standard {
			t.Errorf("%s: containers without limits get %v, want %v", name, got, tt.standard)
		}
		if got := tt.sizing.overheadMiB(cfg); got != tt.overheadMiB {
			t.Errorf("%s: the guest has %d MiB for itself, want %d", name, got, tt.overheadMiB)
		}
	}
}
