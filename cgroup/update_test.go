package cgroup

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"testing"
	"time"

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

// A limit below what processes hold would be refused, or kill them.
func TestMemoryInUse(t *testing.T) {
	const used, less, more = 32 << 20, 16 << 20, 64 << 20
	path := testPath(t)
	cmd := exec.CommandContext(context.Background(), "tail", "-c", "32M") // keeps as much until its input ends
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, cmd) })
	c := apply(t, path, memory(more).Resources, 0, cmd.Process.Pid)
	t.Cleanup(func() {
		if err := c.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if _, err := in.Write(make([]byte, used)); err != nil {
		t.Fatal(err)
	}
	if err := c.CheckMemory(memory(less)); !errors.Is(err, ErrMemoryHeld) {
		t.Errorf("got %v of %d bytes in use", err, used)
	}
	for name, l := range map[string]Limits{"more": memory(more), "no limit": {}} {
		if err := c.CheckMemory(l); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.AwaitMemory(ctx, memory(less)); !errors.Is(err, ErrMemoryHeld) {
		t.Errorf("got %v of memory that stays in use", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = in.Close() })
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.AwaitMemory(ctx, memory(less)); err != nil {
		t.Errorf("got %v of memory that was given back", err)
	}
	if err := c.Update(memory(more), memory(less)); err != nil {
		t.Error(err)
	}
	if got := memoryLimit(t, c); got != strconv.Itoa(less) {
		t.Errorf("got a limit of %s, want %d", got, less)
	}
}
