package cgroup

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// memory are limits of that many bytes of memory and no overhead.
func memory(bytes int64) Limits {
	return Limits{Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &bytes}}}
}

func TestMemoryIsTaken(t *testing.T) {
	for name, tt := range map[string]struct {
		before, after Limits
		want          bool
	}{
		"less":             {memory(2), memory(1), true},
		"as much":          {memory(1), memory(1), false},
		"more":             {memory(1), memory(2), false},
		"the first limit":  {Limits{}, memory(1), true},
		"no limit":         {memory(1), memory(-1), false},
		"none at all":      {Limits{}, Limits{}, false},
		"with an overhead": {memory(1), Limits{Resources: memory(1).Resources, Overhead: 5}, false},
	} {
		if got := TakesMemory(tt.before, tt.after); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// A limit that was not set before has to be reset by name, or it stays.
func TestUndoingNamesWhatWasSet(t *testing.T) {
	quota, period, shares, more := int64(50000), uint64(50000), uint64(512), uint64(1024)
	after := memory(5)
	after.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares}
	r := Limits{}.undoing(after).Resources
	if *r.Memory.Limit != -1 || r.Memory.Swap != nil || *r.CPU.Quota != -1 || *r.CPU.Period != 100_000 || *r.CPU.Shares != more {
		t.Errorf("from nothing: %+v, %+v", r.Memory, r.CPU)
	}
	before := memory(3)
	before.Resources.CPU = &specs.LinuxCPU{Shares: &more}
	r = before.undoing(after).Resources
	if *r.Memory.Limit != 3 || *r.CPU.Shares != more || *r.CPU.Quota != -1 {
		t.Errorf("from other limits: %+v, %+v", r.Memory, r.CPU)
	}
	if before.Resources.CPU.Quota != nil {
		t.Error("the limits themselves have changed")
	}
	if r = before.undoing(Limits{}).Resources; r != before.Resources {
		t.Errorf("nothing was set: %+v", r)
	}
}

func TestLimitsWithoutMemoryOrQuota(t *testing.T) {
	quota, period, shares := int64(50000), uint64(100000), uint64(512)
	l := memory(5)
	l.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares}
	for name, tt := range map[string]struct {
		got           Limits
		memory, quota bool
	}{
		"the limits":     {l, true, true},
		"without memory": {l.WithoutMemory(), false, true},
		"without quota":  {l.WithoutQuota(), true, false},
		"without either": {l.WithoutMemory().WithoutQuota(), false, false},
	} {
		r := tt.got.Resources
		if (r.Memory != nil) != tt.memory || (r.CPU.Quota != nil) != tt.quota || (r.CPU.Period != nil) != tt.quota || *r.CPU.Shares != shares {
			t.Errorf("%s: got %+v, %+v", name, r, r.CPU)
		}
	}
	if got := (Limits{}).WithoutMemory().WithoutQuota(); got != (Limits{}) {
		t.Errorf("got %+v of no limits", got)
	}
}
