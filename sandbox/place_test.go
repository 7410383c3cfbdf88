package sandbox

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// podman gives members the same annotations whether the pod has an infra container or not.
func TestMembersOfPodman(t *testing.T) {
	r := newRig(t)
	member := func(join *state.Container) func(*specs.Spec) {
		paths := make(map[specs.LinuxNamespaceType]string)
		if join != nil {
			paths[specs.NetworkNamespace] = nsOf(join, "net")
		}
		return annotated(map[string]string{
			"io.container.manager":              "libpod",
			"io.kubernetes.cri-o.ContainerType": "container",
			"io.kubernetes.cri-o.SandboxID":     "pod",
		}, paths)
	}
	a := r.mustCreate(t, "a", member(nil))
	b := r.mustCreate(t, "b", member(nil))
	c := r.mustCreate(t, "c", member(a))
	r.onlyLeft(t, "@a", "@b", "a", "b", "c")
	if sameFile(t, nsOf(a, "net"), nsOf(b, "net")) {
		t.Error("two containers of a pod that shares nothing have one network")
	}
	if c.Sandbox != "a" {
		t.Errorf("a container that joins another's network is in the sandbox %s", c.Sandbox)
	}
	infra := r.mustCreate(t, "pod", nil)
	if d := r.mustCreate(t, "d", member(infra)); d.Sandbox != "pod" {
		t.Errorf("a member of a pod with an infra container is in the sandbox %s", d.Sandbox)
	}
	if s, err := r.Store.LoadSandbox("b"); err != nil || s.Pod {
		t.Errorf("a container that is alone is a pod's: %+v, %v", s, err)
	}
	if err := r.create(t, "e", member(nil)); err == nil || !strings.Contains(err.Error(), "a network namespace of its own") {
		t.Errorf("a member of that pod with another network: %v", err)
	}
}

func TestRefusedPlaces(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	other := r.mustCreate(t, "other", nil)
	member := memberOf(pause.Shim)
	for name, tt := range map[string]struct {
		change func(*specs.Spec)
		want   string
	}{
		"a network of its own": {func(s *specs.Spec) {
			member(s)
			setPath(s, specs.NetworkNamespace, "")
		}, "a network namespace of its own"},
		"another sandbox's network": {func(s *specs.Spec) {
			member(s)
			setPath(s, specs.NetworkNamespace, nsOf(other, "net"))
		}, "the sandbox pod has another"},
		"another sandbox's ipc": {func(s *specs.Spec) {
			member(s)
			setPath(s, specs.IPCNamespace, nsOf(other, "ipc"))
		}, "cannot join the ipc namespace " + nsOf(other, "ipc")},
		"the ipc of a process that is no container's": {func(s *specs.Spec) {
			member(s)
			setPath(s, specs.IPCNamespace, fmt.Sprintf("/proc/%d/ns/ipc", os.Getpid()))
		}, "cannot join the ipc namespace /proc/"},
		"namespaces of two sandboxes": {func(s *specs.Spec) {
			setPath(s, specs.NetworkNamespace, nsOf(other, "net"))
			setPath(s, specs.IPCNamespace, nsOf(pause, "ipc"))
		}, "namespaces of different sandboxes"},
		"a sandbox in another": {func(s *specs.Spec) {
			sandboxOf("c")(s)
			setPath(s, specs.NetworkNamespace, nsOf(other, "net"))
		}, "the first container of a pod cannot join"},
	} {
		err := r.create(t, "c", tt.change)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.onlyLeft(t, "@other", "@pod", "other", "pod")
}
