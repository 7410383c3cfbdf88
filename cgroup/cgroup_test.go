package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// testPath is a cgroupsPath of the test's own, which must be gone after it.
func testPath(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make cgroups")
	}
	name := fmt.Sprintf("/runch-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "_"))
	t.Cleanup(func() {
		if left := find(t, name); len(left) > 0 {
			t.Errorf("left behind: %v", left)
			for _, dir := range left {
				_ = removeTree(dir)
			}
		}
	})
	return name
}

// find lists the cgroups at the absolute path in all hierarchies.
func find(t *testing.T, name string) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{unifiedRoot + name, unifiedRoot + "/*" + name} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, dirs...)
	}
	return out
}

// sleeper starts a process that ends with the test.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), "sleep", "300") // t.Context ends before Cleanup
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// end ends a sleeper now.
func end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// read reads a file of a cgroup.
func read(t *testing.T, dir, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// memoryLimit is the cgroup's limit as the kernel has it.
func memoryLimit(t *testing.T, c *Cgroup) string {
	t.Helper()
	if dir, ok := c.Paths()["memory"]; ok {
		return read(t, dir, "memory.limit_in_bytes")
	}
	return read(t, c.Paths()[""], "memory.max")
}

// apply makes the cgroup around a process.
func apply(t *testing.T, path string, res *specs.LinuxResources, overhead int64, pid int) *Cgroup {
	t.Helper()
	c, err := New(path, false, Limits{Resources: res, Overhead: overhead}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(pid); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLifeOfACgroup(t *testing.T) {
	path, cmd := testPath(t), sleeper(t)
	limit, pids, quota, period := int64(64<<20), int64(20), int64(50000), uint64(100000)
	c := apply(t, path, &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: &limit},
		Pids:    &specs.LinuxPids{Limit: &pids},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period},
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
	}, 128<<20, cmd.Process.Pid)

	if !c.manager.Exists() {
		t.Error("the cgroup does not exist")
	}
	if got, want := memoryLimit(t, c), strconv.Itoa(192<<20); got != want {
		t.Errorf("got memory limit %s, want %s", got, want)
	}
	for _, dir := range c.Paths() {
		if got, want := read(t, dir, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid); got != want {
			t.Errorf("%s: got processes %q, want %s", dir, got, want)
		}
		if strings.Contains(dir, "/pids/") && read(t, dir, "pids.max") != "max" {
			t.Error("got a limit of processes, which would end the VM")
		}
	}
	in, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for controller, dir := range in {
		if dir != path {
			t.Errorf("controller %q: got cgroup %s, want %s", controller, dir, path)
		}
	}
	if dir, ok := c.Paths()["cpu"]; ok {
		if got := read(t, dir, "cpu.cfs_quota_us"); got != "50000" {
			t.Errorf("got quota %s", got)
		}
	}
	end(t, cmd)
	// A later command knows only the path.
	for range 2 {
		later, err := Open(path, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := later.Destroy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c.manager.Exists() {
		t.Error("the cgroup exists still")
	}
}

func TestFailedApplyLeavesNothing(t *testing.T) {
	tooFew := int64(1)
	cpus := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "999"}}
	quota := &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &tooFew}}
	dead := sleeper(t)
	end(t, dead)
	tests := map[string]struct {
		res *specs.LinuxResources
		pid func(*testing.T) int
	}{
		"no such processor": {cpus, func(t *testing.T) int { return sleeper(t).Process.Pid }},
		"quota too small":   {quota, func(t *testing.T) int { return sleeper(t).Process.Pid }},
		"dead process":      {nil, func(*testing.T) int { return dead.Process.Pid }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := testPath(t) // looks for leftovers at the end
			pid := tt.pid(t)
			before, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			c, err := New(path+"/parent/child", false, Limits{Resources: tt.res}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Apply(pid); err == nil {
				t.Error("Apply succeeded")
			} else {
				t.Log(err)
			}
			after, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			if d := cmp.Diff(string(before), string(after)); d != "" {
				t.Errorf("the process was moved:\n%s", d)
			}
		})
	}
}

func TestApplyRefusesACgroupInUse(t *testing.T) {
	path, first, second := testPath(t), sleeper(t), sleeper(t)
	c := apply(t, path, nil, 0, first.Process.Pid)
	other, err := New(path, false, Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Apply(second.Process.Pid); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if !c.manager.Exists() {
		t.Error("the refused one took the first away")
	}
	end(t, first)
	if err := c.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestApplyRefusesAFrozenCgroup(t *testing.T) {
	path, cmd := testPath(t), sleeper(t)
	c, err := New(path, false, Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, file, frozen := c.Paths()["freezer"], "freezer.state", "FROZEN"
	if cgroups.IsCgroup2UnifiedMode() {
		dir, file, frozen = c.Paths()[""], "cgroup.freeze", "1"
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := os.WriteFile(filepath.Join(dir, file), []byte(frozen), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(cmd.Process.Pid); !errors.Is(err, ErrFrozen) {
		t.Errorf("got %v, want ErrFrozen", err)
	}
	end(t, cmd)
}

func TestRelativePathIsFoundAgainByItsPaths(t *testing.T) {
	path, cmd := testPath(t), sleeper(t)
	c := apply(t, path[1:], nil, 0, cmd.Process.Pid)
	for controller, dir := range c.Paths() {
		if !strings.HasSuffix(dir, path) {
			t.Errorf("controller %q: got %s", controller, dir)
		}
	}
	end(t, cmd)
	later, err := Open(path[1:], false, c.Paths())
	if err != nil {
		t.Fatal(err)
	}
	if err := later.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.manager.Exists() {
		t.Error("the cgroup exists still")
	}
}

func TestJoin(t *testing.T) {
	path, first, second := testPath(t), sleeper(t), sleeper(t)
	c := apply(t, path, nil, 0, first.Process.Pid)
	if err := Join(first.Process.Pid, second.Process.Pid); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", first.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", second.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	end(t, first)
	end(t, second)
	if err := Join(first.Process.Pid, os.Getpid()); err == nil {
		t.Error("joined a dead process")
	}
	if err := c.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestManyInOurParent concurrently makes and destroys cgroups below ownParent,
// which is removed with the last of them.
func TestManyInOurParent(t *testing.T) {
	_ = testPath(t)
	round := func(i int, pid int) error {
		path := fmt.Sprintf("%s/test-%d-%d", ownParent, os.Getpid(), i)
		c, err := New(path, false, Limits{}, nil)
		if err == nil {
			err = c.Apply(pid)
		}
		if err == nil {
			err = Join(os.Getpid(), pid)
		}
		if err == nil {
			err = c.Destroy(t.Context())
		}
		return err
	}
	// The first round is alone: in it, the library looks up the names of blkio's files
	// without a lock.
	if err := round(0, sleeper(t).Process.Pid); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		pid := sleeper(t).Process.Pid
		wg.Go(func() {
			for range 10 {
				if err := round(i, pid); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if left := find(t, fmt.Sprintf("%s/test-%d-*", ownParent, os.Getpid())); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPaths(t *testing.T) {
	tests := map[string]struct {
		path    string
		systemd bool
		want    cgroups.Cgroup
		err     error
	}{
		"absolute":        {path: "/a/b", want: cgroups.Cgroup{Path: "/a/b"}},
		"relative":        {path: "a/b", want: cgroups.Cgroup{Path: "a/b"}},
		"climbing":        {path: "/a/../../b", want: cgroups.Cgroup{Path: "/b"}},
		"climbing up":     {path: "../../b", want: cgroups.Cgroup{Path: "b"}},
		"colons":          {path: "/a:b:c", want: cgroups.Cgroup{Path: "/a:b:c"}},
		"empty":           {path: "", err: ErrPath},
		"root":            {path: "/", err: ErrPath},
		"root, climbing":  {path: "/a/..", err: ErrPath},
		"zero byte":       {path: "/a\x00b", err: ErrPath},
		"systemd":         {path: "a.slice:p:n", systemd: true, want: cgroups.Cgroup{Parent: "a.slice", ScopePrefix: "p", Name: "n"}},
		"systemd default": {path: ":p:n", systemd: true, want: cgroups.Cgroup{ScopePrefix: "p", Name: "n"}},
		"systemd, path":   {path: "/a/b", systemd: true, err: ErrPath},
		"systemd, slash":  {path: "a.slice:p:n/m", systemd: true, err: ErrPath},
		"systemd, empty":  {path: "", systemd: true, err: ErrPath},
		"systemd, noname": {path: "a.slice:p:", systemd: true, err: ErrPath},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := cgroups.Cgroup{Systemd: tt.systemd}
			err := setPath(&got, tt.path)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			got.Systemd = false
			if d := cmp.Diff(tt.want, got); d != "" && err == nil {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
