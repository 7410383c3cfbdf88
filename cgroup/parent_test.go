package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParentLimits(t *testing.T) {
	memory, quota, period := int64(64<<20), int64(150_000), uint64(100_000)
	limited := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &memory}, CPU: &specs.LinuxCPU{Quota: &quota, Period: &period},
	}
	for name, limits := range map[string]*specs.LinuxResources{
		"limits":    limited,
		"no limits": {},
	} {
		t.Run(name, func(t *testing.T) {
			path, cmd := testPath(t), sleeper(t)
			parent := apply(t, path, limits, 0, cmd.Process.Pid)
			child, err := New(path+"/pod/../child", false, Limits{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(limits, child.ParentLimits()); diff != "" {
				t.Error(diff)
			}
			end(t, cmd)
			if err := parent.Destroy(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	nowhere, err := New(testPath(t)+"/none/child", false, Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&specs.LinuxResources{}, nowhere.ParentLimits()); diff != "" {
		t.Errorf("a parent that is not there: %s", diff)
	}
}
