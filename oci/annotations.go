package oci

// The annotations that tell a container's role in its pod.
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

// Role is a container's role in a pod.
type Role int

// The roles.
const (
	// Alone is a container without a pod.
	Alone Role = iota
	// Sandbox is a pod's first container. The pod ends with it.
	Sandbox
	// Member is any other container of a pod.
	Member
	// MemberOrAlone is a Member if the pod has a sandbox container, else Alone.
	// Podman gives a pod's containers the same annotations in both cases; without a
	// sandbox container (--infra=false) they share nothing.
	MemberOrAlone
)

// RoleOf reads from a spec's annotations the role of the container id in its pod,
// and the id of the pod's sandbox container ("" when it is alone). It knows the
// annotations of CRI-O, containerd's CRI plugin and podman. Podman gives a pod's
// members CRI-O's annotation with the sandbox's id, before version 5 also that with
// the type, and names itself as their manager. The error names the annotation.
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
// container has ended: CRI-O does, and podman up to 4.4. Other callers do not expect
// such a file in their bundles.
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
