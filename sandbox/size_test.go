package sandbox

import (
	"strings"
	"testing"

	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestSizeFor(t *testing.T) {
	s := &state.Sandbox{
		Boot: state.VMSize{CPUs: 1, MemoryMiB: 192}, Now: state.VMSize{CPUs: 2, MemoryMiB: 320},
		MaxCPUs: 4, MaxMemoryMiB: 192 + 1024, OverheadMiB: 128,
	}
	for name, tt := range map[string]struct {
		memoryMiB, quota int64
		want             state.VMSize
	}{
		"no limits":                {0, 0, s.Now},
		"what it was made with":    {64, 50_000, s.Boot},
		"less than that":           {16, 1000, s.Boot},
		"one MiB more is one step": {65, 0, state.VMSize{CPUs: 2, MemoryMiB: 192 + 128}},
		"whole steps":              {64 + 256, 0, state.VMSize{CPUs: 2, MemoryMiB: 192 + 256}},
		"all there can be":         {64 + 1024, 400_000, state.VMSize{CPUs: 4, MemoryMiB: 192 + 1024}},
		"a quota is no promise":    {0, 9_900_000, state.VMSize{CPUs: 4, MemoryMiB: 320}},
	} {
		bytes := tt.memoryMiB << 20
		r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &bytes}, CPU: &specs.LinuxCPU{Quota: &tt.quota}}
		got, err := sizeFor(s, r)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, tt.want)
		}
	}
	tooMuch := int64(64+1025) << 20
	_, err := sizeFor(s, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &tooMuch}})
	if err == nil || !strings.Contains(err.Error(), "max_memory") {
		t.Errorf("got %v", err)
	}
}

// The host's cgroup holds the container's limit and the overheads, and never less
// than a VM that cannot give back what it was made with.
func TestHostLimits(t *testing.T) {
	const mib = 1 << 20
	s := &state.Sandbox{Boot: state.VMSize{MemoryMiB: 512 + 128}, OverheadMiB: 128}
	c := &state.Container{Overhead: (128 + 256) * mib}
	for limit, want := range map[int64]int64{
		512 * mib: c.Overhead,
		600 * mib: c.Overhead,
		64 * mib:  c.Overhead + (512-64)*mib,
		0:         c.Overhead,
		-1:        c.Overhead,
	} {
		r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		if got := hostLimits(s, c, r).Overhead; got != want {
			t.Errorf("limit %d: got an overhead of %d, want %d", limit, got, want)
		}
	}
	if got := hostLimits(s, c, nil).Overhead; got != c.Overhead {
		t.Errorf("no limits: got an overhead of %d", got)
	}
}
