package sandbox

import (
	"math"
	"strings"
	"testing"

	"runch/config"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func memoryOf(bytes int64) *specs.LinuxMemory { return &specs.LinuxMemory{Limit: &bytes} }

// with is the sandbox of one container that has these limits.
func with(s *state.Sandbox, memory *specs.LinuxMemory, quota int64) *state.Sandbox {
	one := *s
	one.Owner = "c"
	one.Members = map[string]state.Member{"c": {Resources: &specs.LinuxResources{Memory: memory, CPU: &specs.LinuxCPU{Quota: &quota}}}}
	return &one
}

// member is one with limits; 0 for none.
func member(memoryMiB, quota int64, shares uint64) state.Member {
	r := &specs.LinuxResources{Memory: memoryOf(memoryMiB << 20), CPU: &specs.LinuxCPU{Quota: &quota}}
	if shares != 0 {
		r.CPU.Shares = &shares
	}
	return state.Member{Resources: r}
}

// A pod's VM has room for all members that live, and its cgroup has the sums of their
// limits and weights.
func TestSizeAndLimitsOfAPod(t *testing.T) {
	const mib = 1 << 20
	ended := member(4096, 900_000, 4096)
	ended.Shim = state.Process{PID: 1 << 30}
	pod := func(members map[string]state.Member) *state.Sandbox {
		return &state.Sandbox{
			Boot: state.VMSize{CPUs: 1, MemoryMiB: 256 + 128}, Now: state.VMSize{CPUs: 1, MemoryMiB: 256 + 128},
			Default: state.VMSize{CPUs: 1, MemoryMiB: 256}, MaxCPUs: 8, MaxMemoryMiB: 384 + 4096, OverheadMiB: 128,
			Owner: "pause", Pod: true, Overhead: 384 * mib, Members: members,
		}
	}
	pause := member(0, 0, 2)
	for name, tt := range map[string]struct {
		members map[string]state.Member
		want    state.VMSize
		memory  int64
		shares  uint64
	}{
		"a pause container alone": {
			map[string]state.Member{"pause": pause},
			state.VMSize{CPUs: 1, MemoryMiB: 384},
			-1, 1024,
		},
		"a pause container and one with limits": {
			map[string]state.Member{"pause": pause, "a": member(384, 150_000, 512)},
			state.VMSize{CPUs: 2, MemoryMiB: 384 + 128},
			384 * mib, 1024,
		},
		"one that has ended counts for nothing": {
			map[string]state.Member{"pause": pause, "a": member(384, 150_000, 512), "b": ended},
			state.VMSize{CPUs: 2, MemoryMiB: 384 + 128},
			384 * mib, 1024,
		},
		"one without limits shares the default size": {
			map[string]state.Member{"pause": pause, "a": member(384, 150_000, 512), "b": member(0, 0, 2048)},
			state.VMSize{CPUs: 2, MemoryMiB: 384 + 384},
			-1, 2562,
		},
		"all have limits": {
			map[string]state.Member{"pause": member(16, 10_000, 2), "a": member(384, 200_000, 0)},
			state.VMSize{CPUs: 3, MemoryMiB: 384 + 256},
			400 * mib, 1026,
		},
	} {
		s := pod(tt.members)
		got, err := sizeFor(s)
		if err != nil || got != tt.want {
			t.Errorf("%s: size %v, %v; want %v", name, got, err, tt.want)
		}
		r := hostLimits(s).Resources
		if *r.Memory.Limit != tt.memory || *r.CPU.Shares != tt.shares {
			t.Errorf("%s: memory %d, shares %d; want %d and %d", name, *r.Memory.Limit, *r.CPU.Shares, tt.memory, tt.shares)
		}
	}
}

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
		got, err := sizeFor(with(s, memoryOf(bytes), tt.quota))
		if err != nil || got != tt.want {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, tt.want)
		}
	}
	tooMuch := int64(64+1025) << 20
	_, err := sizeFor(with(s, memoryOf(tooMuch), 0))
	if err == nil || !strings.Contains(err.Error(), "max_memory") {
		t.Errorf("got %v", err)
	}
}

// A limit above the host's memory, by which some callers say "unlimited", needs no more than
// the host has; nor do several.
func TestSizeForMoreThanTheHostHas(t *testing.T) {
	boot := state.VMSize{CPUs: 1, MemoryMiB: 192}
	most := state.VMSize{CPUs: 1, MemoryMiB: boot.MemoryMiB + steps(config.HostMemoryMiB()-boot.MemoryMiB)}
	unlimited := state.Member{Resources: &specs.LinuxResources{Memory: memoryOf(math.MaxInt64)}}
	s := &state.Sandbox{Pod: true, Boot: boot, Now: boot, MaxCPUs: 1, MaxMemoryMiB: most.MemoryMiB, OverheadMiB: 128}
	for _, members := range []map[string]state.Member{{"a": unlimited}, {"a": unlimited, "b": unlimited}} {
		s.Members = members
		got, err := sizeFor(s)
		if err != nil || got != most {
			t.Errorf("%d members: got %v, %v; want %v", len(members), got, err, most)
		}
		if limit := *hostLimits(s).Resources.Memory.Limit; limit != math.MaxInt64 {
			t.Errorf("%d members: the host's limit is %d", len(members), limit)
		}
	}
}

// The host's cgroup holds the container's limit and the overheads, and never less
// than a VM that cannot give back what it was made with.
func TestHostLimits(t *testing.T) {
	const mib = 1 << 20
	s := &state.Sandbox{Boot: state.VMSize{MemoryMiB: 512 + 128}, OverheadMiB: 128}
	s.Overhead = (128 + 256) * mib
	for limit, want := range map[int64]int64{
		512 * mib: s.Overhead,
		600 * mib: s.Overhead,
		64 * mib:  s.Overhead + (512-64)*mib,
		0:         s.Overhead,
		-1:        s.Overhead,
	} {
		if got := hostLimits(with(s, memoryOf(limit), 0)).Overhead; got != want {
			t.Errorf("limit %d: got an overhead of %d, want %d", limit, got, want)
		}
	}
	if got := hostLimits(with(s, nil, 0)).Overhead; got != s.Overhead {
		t.Errorf("no limits: got an overhead of %d", got)
	}
}

// TestHeldByHost: what the guest holds needs no cgroup on the host.
func TestHeldByHost(t *testing.T) {
	limit, weight := int64(64<<20), uint16(10)
	for want, r := range map[string]*specs.LinuxResources{
		"": {
			Memory: &specs.LinuxMemory{Limit: &limit}, CPU: &specs.LinuxCPU{Quota: &limit}, Pids: &specs.LinuxPids{Limit: &limit},
		},
		"linux.resources.cpu.cpus": {CPU: &specs.LinuxCPU{Cpus: "0"}},
		"linux.resources.cpu.mems": {CPU: &specs.LinuxCPU{Mems: "0"}},
		"linux.resources.blockIO":  {BlockIO: &specs.LinuxBlockIO{Weight: &weight}},
	} {
		if got := heldByHost(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := heldByHost(nil); got != "" {
		t.Errorf("%q of no resources", got)
	}
}
