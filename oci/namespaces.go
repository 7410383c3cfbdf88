package oci

import (
	"errors"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// namespacesField is the field that all errors about namespaces begin with.
const namespacesField = "linux.namespaces"

// knownNamespaces are the kinds of namespaces that a spec may list.
var knownNamespaces = map[specs.LinuxNamespaceType]bool{
	specs.CgroupNamespace:  true,
	specs.IPCNamespace:     true,
	specs.MountNamespace:   true,
	specs.NetworkNamespace: true,
	specs.PIDNamespace:     true,
	specs.TimeNamespace:    true,
	specs.UserNamespace:    true,
	specs.UTSNamespace:     true,
}

// joinable are the kinds of namespaces that containers of one sandbox can share, in
// addition to the network namespace.
var joinable = map[specs.LinuxNamespaceType]bool{
	specs.IPCNamespace:  true,
	specs.PIDNamespace:  true,
	specs.UserNamespace: true,
	specs.UTSNamespace:  true,
}

func refuseJoin(field string, ns specs.LinuxNamespace) error {
	return fieldErrorf(field+".path", "%w",
		OutsideErrorf("cannot join the %s namespace %s: it is not in the container's VM", ns.Type, ns.Path))
}

// namespaceSet is a spec's namespaces by type, with their paths.
type namespaceSet map[specs.LinuxNamespaceType]string

func (s namespaceSet) has(t specs.LinuxNamespaceType) bool {
	_, ok := s[t]
	return ok
}

func namespacesOf(l *specs.Linux) namespaceSet {
	set := make(namespaceSet, len(l.Namespaces))
	for _, ns := range l.Namespaces {
		set[ns.Type] = ns.Path
	}
	return set
}

// validateNamespaces refuses namespaces that are unknown or given twice, those
// that the container would share with the host or with a container outside of
// its VM, and fields that depend on a namespace that the spec does not list.
func validateNamespaces(spec *specs.Spec, env *environment) error {
	seen := make(namespaceSet, len(spec.Linux.Namespaces))
	for i, ns := range spec.Linux.Namespaces {
		field := index(namespacesField, i)
		switch {
		case !knownNamespaces[ns.Type]:
			return fieldErrorf(field+".type", "namespace %q does not exist", ns.Type)
		case seen.has(ns.Type):
			return fieldErrorf(field+".type", "malformed spec file: duplicated ns %q", ns.Type)
		}
		seen[ns.Type] = ns.Path
		if ns.Path == "" {
			continue
		}
		switch {
		case strings.IndexByte(ns.Path, 0) >= 0:
			return fieldErrorf(field+".path", "contains a null byte")
		case ns.Type == specs.NetworkNamespace:
			if err := env.checkNetNS(ns.Path); err != nil {
				return fieldErrorf(field+".path", "%w", err)
			}
		case !joinable[ns.Type]:
			return refuseJoin(field, ns)
		}
	}
	l := spec.Linux
	if !seen.has(specs.MountNamespace) && (len(l.MaskedPaths) > 0 || len(l.ReadonlyPaths) > 0) {
		return fieldErrorf(namespacesField, "unable to restrict sys entries without a private MNT namespace")
	}
	if err := seen.withoutHost(); err != nil {
		return err
	}
	if err := validateUTS(spec, seen); err != nil {
		return err
	}
	if err := validateUser(l, seen); err != nil {
		return err
	}
	return validateTime(l, seen)
}

// withoutHost gives an error where the set has no mount, PID, IPC or network namespace:
// without a VM, the container would share the host's.
func (s namespaceSet) withoutHost() error {
	for _, t := range []specs.LinuxNamespaceType{
		specs.MountNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.NetworkNamespace,
	} {
		if !s.has(t) {
			return fieldErrorf(namespacesField, "%w", OutsideErrorf("no %s namespace: the host's cannot be shared with a VM", t))
		}
	}
	return nil
}

// WantsHost tells whether a spec asks for a namespace of the host that no VM can share:
// it has no entry for one, or the path of the host's network namespace.
func WantsHost(spec *specs.Spec) bool {
	if spec.Linux == nil {
		return false
	}
	set := namespacesOf(spec.Linux)
	if set.withoutHost() != nil {
		return true
	}
	path := set[specs.NetworkNamespace]
	return path != "" && errors.Is(checkNetNS(path), ErrOutside)
}

func validateUTS(spec *specs.Spec, set namespaceSet) error {
	if set.has(specs.UTSNamespace) {
		return nil
	}
	if spec.Hostname != "" {
		return fieldErrorf("hostname", "unable to set hostname without a private UTS namespace")
	}
	if spec.Domainname != "" {
		return fieldErrorf("domainname", "unable to set domainname without a private UTS namespace")
	}
	return nil
}

func validateUser(l *specs.Linux, set namespaceSet) error {
	hasMappings := l.UIDMappings != nil || l.GIDMappings != nil
	if !hasMappings && set[specs.UserNamespace] != "" {
		return nil // the joined namespace has mappings
	}
	if !set.has(specs.UserNamespace) {
		if hasMappings {
			return fieldErrorf("linux.uidMappings", "user namespace mappings specified, but user namespace isn't enabled in the config")
		}
		return nil
	}
	switch {
	case !hasMappings:
		return fieldErrorf("linux.uidMappings", "user namespaces enabled, but no namespace path to join nor mappings to apply specified")
	case len(l.UIDMappings) == 0:
		return fieldErrorf("linux.uidMappings", "user namespaces enabled, but no uid mappings found")
	case len(l.GIDMappings) == 0:
		return fieldErrorf("linux.gidMappings", "user namespaces enabled, but no gid mappings found")
	}
	return nil
}

func validateTime(l *specs.Linux, set namespaceSet) error {
	if l.TimeOffsets == nil {
		return nil
	}
	if !set.has(specs.TimeNamespace) {
		return fieldErrorf("linux.timeOffsets", "time namespace offsets specified, but time namespace isn't enabled in the config")
	}
	for clock := range l.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			return fieldErrorf(key("linux.timeOffsets", clock), "the kernel has offsets for monotonic and boottime only")
		}
	}
	return nil
}

// splitNamespaces points the guest's spec at the guest's network namespace. It sets
// the host's hostname and domainname where the spec has none: a new UTS namespace
// would start with the guest kernel's. A namespace of another container is refused
// unless that container is in the same sandbox.
func splitNamespaces(host *HostPart, guest *specs.Spec, in Placement, env *environment) error {
	set := namespacesOf(guest.Linux)
	host.Namespaces = set
	for i := range guest.Linux.Namespaces {
		ns := &guest.Linux.Namespaces[i]
		switch {
		case ns.Type == specs.NetworkNamespace && set.has(specs.UserNamespace):
			// Only the user namespace that owns a network namespace may mount its sysfs
			// and set its sysctls. So the guest decides: its first container makes the
			// two together, a later one joins the sandbox's.
			ns.Path = ""
		case ns.Type == specs.NetworkNamespace:
			ns.Path = in.NetNS
		case ns.Path != "" && !in.Joined[ns.Type]:
			return refuseJoin(index(namespacesField, i), *ns)
		default:
			ns.Path = ""
		}
	}
	if in.Joined[specs.UTSNamespace] {
		return nil // the joined namespace has names
	}
	if !set.has(specs.UTSNamespace) {
		guest.Linux.Namespaces = append(guest.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if guest.Hostname == "" {
		guest.Hostname = env.hostname
	}
	if guest.Domainname == "" {
		guest.Domainname = env.domainname
	}
	return nil
}
