package oci

import (
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// Features is what `features` prints: what is honoured, and nothing else. It does
// not depend on the host.
func Features() *features.Features {
	yes, no := true, false
	return &features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks: []string{
			hookPrestart, hookCreateRuntime, hookCreateContainer, hookStartContainer, hookPoststart, hookPoststop,
		},
		MountOptions: knownMountOptions(),
		Linux: &features.Linux{
			Namespaces:   knownNamespaceNames(),
			Capabilities: knownCapabilities(),
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &no},
			Seccomp: &features.Seccomp{
				Enabled:        &yes,
				Actions:        slices.Clone(seccompActions),
				Operators:      slices.Clone(seccompOperators),
				Archs:          slices.Clone(seccompArchs),
				KnownFlags:     slices.Clone(seccompFlags),
				SupportedFlags: slices.Clone(seccompFlags),
			},
			// A profile is accepted, but it is not what confines the container.
			Apparmor: &features.Apparmor{Enabled: &no},
			Selinux:  &features.Selinux{Enabled: &yes},
			IntelRdt: &features.IntelRdt{Enabled: &no, Schemata: &no, Monitoring: &no},
			MemoryPolicy: &features.MemoryPolicy{
				Modes: sortedNames(memoryPolicyModes),
				Flags: sortedNames(memoryPolicyFlags),
			},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			NetDevices:      &features.NetDevices{Enabled: &no},
		},
		// They set properties of the container's unit in the host's systemd.
		PotentiallyUnsafeConfigAnnotations: []string{"org.systemd.property."},
	}
}

// knownMountOptions are those that are not a filesystem's own. As with runc,
// the options for id-mapped mounts are not among them but in MountExtensions.
func knownMountOptions() []string {
	known := make(map[string]bool)
	for _, table := range []map[string]bool{flagOptions, propagationOptions, recursiveOptions, extensionOptions} {
		maps.Copy(known, table)
	}
	return sortedNames(known)
}

func knownNamespaceNames() []string { return sortedNames(knownNamespaces) }

// sortedNames are a table's keys.
func sortedNames[K ~string, V any](table map[K]V) []string {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

// knownCapabilities are those of Linux 5.9 and later, by number; see capabilities(7).
func knownCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
		"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
		"CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
		"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
		"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
		"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	}
}
