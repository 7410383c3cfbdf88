package oci

// The annotations by which callers say what a container is to its pod.
const (
	crioType       = "io.kubernetes.cri-o.ContainerType"
	crioSandbox    = "io.kubernetes.cri-o.SandboxID"
	containerdType = "io.kubernetes.cri.container-type"
	containerdPod  = "io.kubernetes.cri.sandbox-id"

	typeSandbox   = "sandbox"
	typeContainer = "container"

	manager       = "io.container.manager"
	managerCRIO   = "cri-o"
	managerPodman = "libpod"
)

// Role is what a container is to a pod.
type Role int

// The roles.
const (
	// Alone is a container without a pod.
	Alone Role = iota
	// Sandbox is a pod's first container, whose end is the pod's.
	Sandbox
	// Member is any other container of a pod.
	Member
	// MemberOrAlone is a Member if the pod has a container of its own, else Alone:
	// what podman says of its members is the same in both cases, and in the second
	// (--infra=false) they have nothing in common.
	MemberOrAlone
)

// RoleOf reads from a spec's annotations what the container id is to a pod,
// and the id of the pod's sandbox container ("" when it is alone). It knows the
// annotations of CRI-O, containerd's CRI plugin and podman; podman gives its
// members the sandbox's id in CRI-O's annotation, before version 5 a type too, and
// says that it is their manager. The error names the annotation.
func RoleOf(id string, annotations map[string]string) (Role, string, error) {
	for _, names := range []struct{ typ, sandbox string }{
		{crioType, crioSandbox},
		{containerdType, containerdPod},
	} {
		typ, hasType := annotations[names.typ]
		sandbox, hasSandbox := annotations[names.sandbox]
		if !hasType && !hasSandbox {
			continue
		}
		if hasSandbox && ValidateID(sandbox) != nil {
			return Alone, "", fieldErrorf(key("annotations", names.sandbox), "%q: %w", sandbox, ErrInvalidID)
		}
		switch {
		case hasType && typ != typeSandbox && typ != typeContainer:
			return Alone, "", fieldErrorf(key("annotations", names.typ), "%q is neither %s nor %s", typ, typeSandbox, typeContainer)
		case typ == typeSandbox, sandbox == id:
			return Sandbox, id, nil
		case !hasSandbox:
			return Alone, "", fieldErrorf(key("annotations", names.typ), "a container without %s", names.sandbox)
		case !hasType, annotations[manager] == managerPodman:
			return MemberOrAlone, sandbox, nil
		}
		return Member, sandbox, nil
	}
	return Alone, "", nil
}

// WantsOOMFile tells whether the caller looks for a file "oom" in the bundle when a
// container has ended: CRI-O does, and podman up to 4.4. In the bundles of others such
// a file would be a stranger.
func WantsOOMFile(annotations map[string]string) bool {
	by := annotations[manager]
	return by == managerCRIO || by == managerPodman
}

// validateAnnotations checks the annotations' form.
func validateAnnotations(annotations map[string]string) error {
	if _, ok := annotations[""]; ok {
		return fieldErrorf("annotations", "a key is empty")
	}
	return nil
}
