package cgroup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

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
	if err := c.LowerMemory(ctx, memory(less)); !errors.Is(err, ErrMemoryHeld) {
		t.Errorf("got %v of memory that stays in use", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = in.Close() })
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.LowerMemory(ctx, memory(less)); err != nil {
		t.Errorf("got %v of memory that was given back", err)
	}
	if err := c.Update(memory(more), memory(less)); err != nil {
		t.Error(err)
	}
	if got := memoryLimit(t, c); got != strconv.Itoa(less) {
		t.Errorf("got a limit of %s, want %d", got, less)
	}
}

// Pages are charged until they are free, which is some time after their process
// has unmapped them or has ended.
func TestMemoryNotYetFree(t *testing.T) {
	const less, more = splicedPipes * pipeBytes / 2, 64 << 20
	path := testPath(t)
	out, in := fullSizePipes(t, splicedPipes)
	cmd, stdin := actor(t, "splice", in...)
	c := apply(t, path, memory(more).Resources, 0, cmd.Process.Pid)
	t.Cleanup(func() {
		if err := c.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if _, err := stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.LowerMemory(ctx, memory(less)); !errors.Is(err, ErrMemoryHeld) {
		t.Errorf("got %v of memory that is not free yet", err)
	}
	time.AfterFunc(50*time.Millisecond, func() {
		for _, end := range append(out, in...) {
			_ = end.Close()
		}
	})
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.LowerMemory(ctx, memory(less)); err != nil {
		t.Errorf("got %v of memory that was freed", err)
	}
	if got := memoryLimit(t, c); got != strconv.Itoa(less) {
		t.Errorf("got a limit of %s, want %d", got, less)
	}
}

// fullSizePipes are pipes that hold pipeBytes each.
func fullSizePipes(t *testing.T, count int) (out, in []*os.File) {
	t.Helper()
	for range count {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeBytes); err != nil {
			t.Fatal(err)
		}
		out, in = append(out, r), append(in, w)
	}
	return out, in
}

func TestHeldMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		usage, kernel uint64
		stat          map[string]uint64
		want          uint64
	}{
		"v1": {100, 10, map[string]uint64{"total_rss": 0, "total_active_file": 20, "total_inactive_file": 30}, 40},
		"v2": {100, 0, map[string]uint64{"anon": 0, "active_file": 20, "inactive_file": 30, "slab_reclaimable": 5, "slab_unreclaimable": 7}, 45},
		// Unmapped and not yet free; figures of a process that was just ending.
		"v1, at an exit":    {33951744, 69632, map[string]uint64{"total_rss": 13422592, "total_inactive_anon": 33579008}, 33882112},
		"of other instants": {100, 0, map[string]uint64{"active_file": 101}, 0},
	} {
		m := cgroups.MemoryStats{
			Usage: cgroups.MemoryData{Usage: tt.usage}, KernelUsage: cgroups.MemoryData{Usage: tt.kernel}, Stats: tt.stat,
		}
		if got := heldMemory(m); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}
