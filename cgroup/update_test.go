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

func TestLimitsWithoutSize(t *testing.T) {
	quota, period, shares := int64(50000), uint64(100000), uint64(512)
	l := memory(5)
	l.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares}
	rest := l.WithoutSize().Resources
	if rest.Memory != nil || rest.CPU.Quota != nil || rest.CPU.Period != nil || *rest.CPU.Shares != shares {
		t.Errorf("got %+v, %+v", rest, rest.CPU)
	}
	if l.Resources.Memory == nil || l.Resources.CPU.Quota == nil {
		t.Error("the limits themselves have changed")
	}
	if got := (Limits{}).WithoutSize(); got != (Limits{}) {
		t.Errorf("got %+v of no limits", got)
	}
}
