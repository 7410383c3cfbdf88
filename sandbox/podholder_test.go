package sandbox

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"runch/namespace"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestAPodWithoutAContainerOfItsOwn(t *testing.T) {
	r := newRig(t)
	netns := newNetNS(t)
	member := annotated(
		map[string]string{"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod"},
		map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: netns},
	)
	r.fail(t, "boot")
	if err := r.create(t, "a", member); err == nil {
		t.Error("created in a VM that did not boot")
	}
	r.onlyLeft(t)
	r.fail(t, "create")
	if err := r.create(t, "a", member); err == nil {
		t.Error("created")
	}
	r.onlyLeft(t) // the pod has no members, so its VM has ended, too
	r.fail(t, "")
	a := r.mustCreate(t, "a", member)
	b := r.mustCreate(t, "b", member)
	s, err := r.Store.LoadSandbox("pod")
	if err != nil || s.Owner != "" || s.Holder == a.Shim || len(s.Members) != 2 {
		t.Fatalf("sandbox %+v, %v", s, err)
	}
	if want := r.group() + "/pod"; s.Cgroup.Path != want {
		t.Errorf("the holder's cgroup is %s, not %s", s.Cgroup.Path, want)
	}
	if err := r.Delete(t.Context(), "a", true); err != nil {
		t.Fatal(err)
	}
	if !b.Shim.Alive() || !s.Holder.Alive() {
		t.Error("the pod has ended with one of its members")
	}
	// Where the VM is lost, what was in it is stopped, and the next member has another VM.
	if err := unix.Kill(s.Holder.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	end(t, b.Shim)
	r.mustCreate(t, "c", member)
	if err := r.Delete(t.Context(), "b", false); err != nil {
		t.Error(err)
	}
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Error(err)
	}
	r.onlyLeft(t)
}

// CRI-O tells a runtime nothing of a pod's end: it ends the members and removes the
// namespaces that it has made for them, and deletes the members later.
func TestAPodEndsWithItsMembersAndItsNamespaces(t *testing.T) {
	for name, ends := range map[string]func(t *testing.T, netns string, members ...state.Process){
		"members first": func(t *testing.T, netns string, members ...state.Process) {
			t.Helper()
			kill(t, members...)
			unpin(t, netns)
		},
		"namespaces first": func(t *testing.T, netns string, members ...state.Process) {
			t.Helper()
			unpin(t, netns)
			kill(t, members...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			netns := newNetNS(t)
			member := annotated(
				map[string]string{"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod"},
				map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: netns},
			)
			// A pod goes on between its members.
			init := r.mustCreate(t, "init", member)
			kill(t, init.Shim)
			a, b := r.mustCreate(t, "a", member), r.mustCreate(t, "b", member)
			s, err := r.Store.LoadSandbox("pod")
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Members) != 3 {
				t.Errorf("the pod has had another VM: its members are %v", s.Members)
			}
			ends(t, netns, a.Shim, b.Shim)
			end(t, s.Holder)
			for _, id := range []string{"init", "a", "b"} {
				if err := r.Delete(t.Context(), id, false); err != nil {
					t.Error(err)
				}
			}
			r.onlyLeft(t)
		})
	}
}

// CRI-O writes the spec of a sandbox container even if it does not make the container. The
// VM gets the pod's size from that spec, and the pod's namespaces get its sysctls.
func TestAPodWhoseContainerIsNotMade(t *testing.T) {
	r := newRig(t)
	pod := filepath.Join(r.dir, "..", "pod", "userdata") // beside the bundles' parents
	if err := os.MkdirAll(pod, 0o750); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(&specs.Spec{
		Annotations: map[string]string{
			"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.SandboxID": "pod", "spoofed.crio.io": "true",
			"pod-linux-resources.crio.io": `{"cpu_period":100000,"cpu_quota":250000,"memory_limit_in_bytes":805306368}`,
			"pod-linux-overhead.crio.io":  `{"memory_limit_in_bytes":536870912}`,
		},
		Linux: &specs.Linux{Sysctl: map[string]string{"net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pod, oci.ConfigName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	netns := newNetNS(t)
	member := func(s *specs.Spec) {
		annotated(
			map[string]string{"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod"},
			map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: netns},
		)(s)
		s.Linux.Sysctl = map[string]string{"net.core.somaxconn": "78"}
	}
	r.fail(t, "create")
	if err := r.create(t, "init", member); err == nil {
		t.Fatal("created")
	}
	r.fail(t, "")
	r.mustCreate(t, "init", member)
	r.mustCreate(t, "a", member)
	s, err := r.Store.LoadSandbox("pod")
	if err != nil {
		t.Fatal(err)
	}
	if want := (state.VMSize{CPUs: 3, MemoryMiB: 768 + 256}); s.Boot != want {
		t.Errorf("the VM was made with %v, not %v", s.Boot, want)
	}
	for id, want := range map[string]map[string]string{
		"init": {"net.core.somaxconn": "78", "kernel.shm_rmid_forced": "1"},
		"a":    {"net.core.somaxconn": "78"},
	} {
		if got := r.guestSpec(t, id).Linux.Sysctl; !maps.Equal(got, want) {
			t.Errorf("sysctls of %s: %v, want %v", id, got, want)
		}
	}
}

// newNetNS pins a network namespace as CRI-O does: a file that belongs to no process.
func newNetNS(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	namespace.Do(func() bool {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		return false // the thread ends in the namespace, which the mount keeps
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(path); err == nil {
			unpin(t, path)
		}
	})
	return path
}

// unpin removes what newNetNS has made, as CRI-O does when a pod is stopped.
func unpin(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path)); err != nil {
		t.Error(err)
	}
}
