package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// withFallback sets a fallback runtime that is a shell script, and gives its path.
func (r *rig) withFallback(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(r.dir, "fakerunc")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	r.Config.FallbackRuntime = path
	t.Cleanup(func() { r.disown(t) })
	return path
}

func (r *rig) passOn(t *testing.T, id string, change func(*specs.Spec)) (*Fallback, error) {
	t.Helper()
	return r.PassOn(t.Context(), id, r.readBundle(t, id, change))
}

// mustPassOn makes a container's record, and the directory that the runtime would make.
func (r *rig) mustPassOn(t *testing.T, id string, change func(*specs.Spec)) *Fallback {
	t.Helper()
	f, err := r.passOn(t, id, change)
	if err != nil || f == nil {
		t.Fatalf("%s is not passed on: %v", id, err)
	}
	if err := os.MkdirAll(filepath.Join(f.Root, id), 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

// disown ends what was passed on: its creator is this process, which a delete by force
// would end.
func (r *rig) disown(t *testing.T) {
	t.Helper()
	all, _ := r.Store.List() // without a root there are none
	for _, c := range all {
		if f := r.fallbackOf(c); f != nil {
			if err := os.RemoveAll(f.Root); err != nil {
				t.Error(err)
			}
			r.orphan(t, c.ID)
		}
	}
}

// orphan makes the creator of a record one that has ended.
func (r *rig) orphan(t *testing.T, id string) {
	t.Helper()
	err := r.changeRecord(id, func(c *state.Container) { c.Creator = state.Process{PID: 1, StartTime: 1} })
	if err != nil && !errors.Is(err, state.ErrNotExist) {
		t.Fatal(err)
	}
}

// foreign is a process in namespaces of its own, which is no container's.
func foreign(t *testing.T) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--ipc", "--uts", "sh", "-c", "echo; exec sleep 300")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestWhatIsPassedOn(t *testing.T) {
	r := newRig(t)
	program := r.withFallback(t, "exit 1\n")
	pid := foreign(t)
	ns := func(kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", pid, kind) }
	pinned := filepath.Join(r.dir, "ipc")
	if err := os.WriteFile(pinned, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*specs.Spec)
		passed bool
	}{
		"nothing of the host's":         {func(*specs.Spec) {}, false},
		"the host's network":            {hostNetwork, true},
		"the host's pids":               {without(specs.PIDNamespace), true},
		"the host's ipc":                {without(specs.IPCNamespace), true},
		"the host's names alone":        {without(specs.UTSNamespace), false},
		"the host's network by path":    {joining(specs.NetworkNamespace, "/proc/self/ns/net"), true},
		"a process's network":           {joining(specs.NetworkNamespace, ns("net")), true},
		"a process's ipc":               {joining(specs.IPCNamespace, ns("ipc")), true},
		"an ipc in a file":              {joining(specs.IPCNamespace, pinned), true},
		"a sandbox's ipc in a file":     {both(sandboxOf("c"), joining(specs.IPCNamespace, pinned)), false},
		"a namespace that is not there": {joining(specs.IPCNamespace, "/nowhere"), false},
		"a hostNetwork pod":             {both(sandboxOf("c"), hostNetwork), true},
		"a member without its sandbox":  {both(crioMember("gone"), hostNetwork), true},
		"no section linux":              {func(s *specs.Spec) { s.Linux = nil }, false},
	} {
		f, err := r.passOn(t, "c", tt.change)
		if err != nil || (f != nil) != tt.passed {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		if f == nil {
			continue
		}
		if f.Program != program || f.Root != filepath.Join(r.Store.Root(), "=fakerunc") {
			t.Errorf("%s: %+v", name, f)
		}
		if err := r.Forget(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	}
	r.onlyLeft(t)
}

func TestMembersFollowTheirSandbox(t *testing.T) {
	r := newRig(t)
	r.withFallback(t, "exit 1\n")
	r.mustPassOn(t, "hostpod", both(sandboxOf("hostpod"), hostNetwork))
	r.Config.FallbackRuntime = "" // what counts is where the pod is
	if f, err := r.passOn(t, "m", crioMember("hostpod")); f == nil || err != nil {
		t.Errorf("a member of a pod that was passed on: %+v, %v", f, err)
	}
	if err := r.Forget(t.Context(), "m"); err != nil {
		t.Error(err)
	}
}

func TestNothingJoinsAVMFromOutside(t *testing.T) {
	r := newRig(t)
	r.withFallback(t, "exit 1\n")
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	for name, change := range map[string]func(*specs.Spec){
		"a member of its pod":         both(crioMember("pod"), hostNetwork),
		"who joins its pids":          both(joining(specs.PIDNamespace, nsOf(pause, "pid")), hostNetwork),
		"who joins its network alone": both(joining(specs.NetworkNamespace, nsOf(pause, "net")), without(specs.PIDNamespace)),
	} {
		if f, err := r.passOn(t, "c", change); f != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		if _, err := r.checked(t, "c", change); !errors.Is(err, oci.ErrOutside) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (r *rig) checked(t *testing.T, id string, change func(*specs.Spec)) (*oci.Bundle, error) {
	t.Helper()
	b := r.readBundle(t, id, change)
	return b, b.Check()
}

// The setting is named where it would help, and nowhere else.
func TestExplain(t *testing.T) {
	r := newRig(t)
	r.mustCreate(t, "pod", sandboxOf("pod"))
	pid := foreign(t)
	const hint = ": set fallback_runtime to have it run by runc, without a VM"
	for name, tt := range map[string]struct {
		change func(*specs.Spec)
		hint   bool
	}{
		"the host's network":              {hostNetwork, true},
		"a process's ipc":                 {joining(specs.IPCNamespace, fmt.Sprintf("/proc/%d/ns/ipc", pid)), true},
		"a member of a pod that has a VM": {both(crioMember("pod"), hostNetwork), false},
		"another major version":           {func(s *specs.Spec) { s.Version = "2.0.0" }, false},
	} {
		b, err := r.checked(t, "c", tt.change)
		if err == nil {
			err = r.Create(t.Context(), CreateOptions{ID: "c", Bundle: b})
		} else {
			err = r.Explain("c", b.Spec, err)
		}
		if err == nil || strings.HasSuffix(err.Error(), hint) != tt.hint {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFindFallback(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	script := filepath.Join(dir, "fakerunc")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	for _, program := range []string{"fakerunc", script} {
		if found, err := FindFallback(program); err != nil || found != script {
			t.Errorf("%s: %q, %v", program, found, err)
		}
	}
	for program, want := range map[string]string{
		"nosuchruntime": "there is no program", filepath.Join(dir, "none"): "there is no program", "/proc/self/exe": "is runch itself",
	} {
		if _, err := FindFallback(program); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", program, err)
		}
	}
}
