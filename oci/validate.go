package oci

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// validate checks all of a spec that does not depend on the bundle's files.
func validate(spec *specs.Spec, env *environment) error {
	for _, check := range []func() error{
		func() error { return validateVersion(spec.Version) },
		func() error { return validateProcess(spec.Process, env) },
		func() error { return validateSections(spec) },
		func() error { return validateNames(spec) },
		func() error { return validateMounts(spec) },
		func() error { return validateHooks(spec.Hooks) },
		func() error { return validateAnnotations(spec.Annotations) },
		func() error { return validateLinux(spec, env) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// validateVersion refuses a later major version of the runtime spec, which may give
// fields another meaning. Like runc, it accepts a spec without a version, and minor
// versions that are newer than this runtime's.
func validateVersion(version string) error {
	if version == "" {
		return nil
	}
	major, rest, ok := strings.Cut(version, ".")
	if _, _, hasPatch := strings.Cut(rest, "."); !ok || !hasPatch {
		return fieldErrorf("ociVersion", "%q is not a semantic version", version)
	}
	n, err := strconv.ParseUint(major, 10, 32)
	if err != nil {
		return fieldErrorf("ociVersion", "%q is not a semantic version", version)
	}
	if n > specs.VersionMajor {
		return fieldErrorf("ociVersion", "%s is not supported: this runtime knows up to %s", version, specs.Version)
	}
	return nil
}

// validateSections refuses a spec without the sections that every container needs, or
// with those of other platforms.
func validateSections(spec *specs.Spec) error {
	switch {
	case spec.Root == nil:
		return fieldErrorf("root", "root must be specified")
	case spec.Root.Path == "":
		return fieldErrorf("root.path", "must not be empty")
	case strings.IndexByte(spec.Root.Path, 0) >= 0:
		return fieldErrorf("root.path", "contains a null byte")
	case spec.Linux == nil:
		return fieldErrorf("linux", "linux must be specified: a container that shares the host's namespaces cannot be in a VM")
	case spec.VM != nil:
		return fieldErrorf("vm", "the virtual machine is described by this runtime's own configuration")
	}
	for field, set := range map[string]bool{
		"solaris": spec.Solaris != nil, "windows": spec.Windows != nil,
		"zos": spec.ZOS != nil, "freebsd": spec.FreeBSD != nil,
	} {
		if set {
			return fieldErrorf(field, "this runtime runs Linux containers")
		}
	}
	return nil
}

// maxName is the length of the longest host or domain name that Linux takes.
const maxName = 64

func validateNames(spec *specs.Spec) error {
	for _, n := range []struct{ field, value string }{
		{"hostname", spec.Hostname}, {"domainname", spec.Domainname},
	} {
		if len(n.value) > maxName {
			return fieldErrorf(n.field, "longer than %d bytes", maxName)
		}
		if strings.IndexByte(n.value, 0) >= 0 {
			return fieldErrorf(n.field, "contains a null byte")
		}
	}
	return nil
}

// validateLinux checks the spec's linux section.
func validateLinux(spec *specs.Spec, env *environment) error {
	l := spec.Linux
	if err := validateNamespaces(spec, env); err != nil {
		return err
	}
	switch {
	case l.IntelRdt != nil:
		return fieldErrorf("linux.intelRdt", "the host's caches and memory bandwidth cannot be parted from within a VM")
	case len(l.NetDevices) > 0:
		return fieldErrorf("linux.netDevices", "a network device of the host cannot be moved into a VM")
	case l.MountLabel != "" && !env.selinux:
		return fieldErrorf("linux.mountLabel", "selinux label is specified in config, but selinux is disabled or not supported")
	case strings.IndexByte(l.CgroupsPath, 0) >= 0:
		return fieldErrorf("linux.cgroupsPath", "contains a null byte")
	case l.RootfsPropagation != "" && !propagationOptions[l.RootfsPropagation]:
		return fieldErrorf("linux.rootfsPropagation", "rootfsPropagation=%v is not supported", l.RootfsPropagation)
	}
	if err := validateDevices(l, env); err != nil {
		return err
	}
	for _, check := range []func(*specs.Linux) error{
		validateResources, validateSysctl, validateSeccomp, validateMemoryPolicy, validatePersonality,
	} {
		if err := check(l); err != nil {
			return err
		}
	}
	return nil
}

// memoryPolicyModes are runc's, each with the number of nodes that it takes.
var memoryPolicyModes = map[specs.MemoryPolicyModeType]nodesRule{
	specs.MpolDefault:            nodesNone,
	specs.MpolLocal:              nodesNone,
	specs.MpolPreferred:          nodesAny,
	specs.MpolBind:               nodesSome,
	specs.MpolInterleave:         nodesSome,
	specs.MpolPreferredMany:      nodesSome,
	specs.MpolWeightedInterleave: nodesSome,
}

// memoryPolicyFlags are runc's.
var memoryPolicyFlags = map[specs.MemoryPolicyFlagType]bool{
	specs.MpolFStaticNodes:   true,
	specs.MpolFRelativeNodes: true,
	specs.MpolFNumaBalancing: true,
}

// nodesRule says how many memory nodes a policy names.
type nodesRule int

const (
	nodesAny nodesRule = iota
	nodesNone
	nodesSome
)

// validateMemoryPolicy checks the arguments for set_mempolicy(2). The guest has only
// memory node 0, so a policy cannot name another.
func validateMemoryPolicy(l *specs.Linux) error {
	policy := l.MemoryPolicy
	if policy == nil {
		return nil
	}
	const field = "linux.memoryPolicy"
	rule, ok := memoryPolicyModes[policy.Mode]
	if !ok {
		return fieldErrorf(field+".mode", "invalid memory policy mode %q", policy.Mode)
	}
	nodes, err := parseList(policy.Nodes)
	if err != nil {
		return fieldErrorf(field+".nodes", "invalid memory policy nodes %q: %w", policy.Nodes, err)
	}
	for i, flag := range policy.Flags {
		if !memoryPolicyFlags[flag] {
			return fieldErrorf(index(field+".flags", i), "invalid memory policy flag %q", flag)
		}
	}
	named := nodes.Count()
	switch {
	case rule == nodesNone && named > 0:
		return fieldErrorf(field+".nodes", "memory policy mode requires 0 nodes but got %d", named)
	case rule == nodesSome && named == 0:
		return fieldErrorf(field+".nodes", "memory policy mode requires at least one node but got 0")
	case named > 1, named == 1 && !nodes.IsSet(0):
		return fieldErrorf(field+".nodes", "invalid memory policy nodes %q: the guest has node 0 alone", policy.Nodes)
	}
	return nil
}

func validatePersonality(l *specs.Linux) error {
	p := l.Personality
	if p == nil {
		return nil
	}
	if p.Domain != specs.PerLinux && p.Domain != specs.PerLinux32 {
		return fieldErrorf("linux.personality.domain", "invalid personality domain %s", p.Domain)
	}
	if len(p.Flags) > 0 {
		return fieldErrorf("linux.personality.flags", "unsupported personality flags: %v", p.Flags)
	}
	return nil
}
