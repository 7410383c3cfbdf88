package sandbox

import (
	"maps"
	"path/filepath"
	"strconv"

	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// annotated gives a spec annotations and namespaces to join.
func annotated(annotations map[string]string, join map[specs.LinuxNamespaceType]string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Annotations = maps.Clone(annotations)
		for i := range s.Linux.Namespaces {
			if path, ok := join[s.Linux.Namespaces[i].Type]; ok {
				s.Linux.Namespaces[i].Path = path
			}
		}
	}
}

func sandboxOf(pod string) func(*specs.Spec) {
	return annotated(map[string]string{"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": pod}, nil)
}

// memberOf is containerd's member of the pod "pod", whose first container has this shim.
func memberOf(first state.Process) func(*specs.Spec) {
	ns := func(kind string) string { return filepath.Join("/proc", strconv.Itoa(first.PID), "ns", kind) }
	return annotated(
		map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod"},
		map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: ns("net"), specs.IPCNamespace: ns("ipc"), specs.UTSNamespace: ns("uts")},
	)
}

// crioMember is a container of a pod as CRI-O describes it.
func crioMember(pod string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Annotations = map[string]string{
			"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": pod,
		}
	}
}

func setPath(s *specs.Spec, kind specs.LinuxNamespaceType, path string) {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == kind {
			s.Linux.Namespaces[i].Path = path
		}
	}
}

// joining has a container join a namespace.
func joining(kind specs.LinuxNamespaceType, path string) func(*specs.Spec) {
	return func(s *specs.Spec) { setPath(s, kind, path) }
}

func without(kind specs.LinuxNamespaceType) func(*specs.Spec) {
	return func(s *specs.Spec) {
		var kept []specs.LinuxNamespace
		for _, ns := range s.Linux.Namespaces {
			if ns.Type != kind {
				kept = append(kept, ns)
			}
		}
		s.Linux.Namespaces = kept
	}
}

func hostNetwork(s *specs.Spec) { without(specs.NetworkNamespace)(s) }

func both(changes ...func(*specs.Spec)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		for _, change := range changes {
			change(s)
		}
	}
}
