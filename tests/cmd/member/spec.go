package main

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"runch/agentproto"
)

// spec returns the container's spec in the form for the agent: its paths are in the guest.
func (o *options) spec() *specs.Spec {
	all := []string{"CAP_SYS_ADMIN", "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "CAP_NET_ADMIN"}
	spec := &specs.Spec{
		Version:  specs.Version,
		Hostname: o.hostname,
		Root:     &specs.Root{Path: agentproto.GuestSharedDir + "/" + o.of + "/rootfs"},
		Process: &specs.Process{
			Args: o.args, Cwd: "/", Env: []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/guest", Type: "bind", Source: "/", Options: []string{"rbind"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/runch/" + o.name,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.NetworkNamespace, Path: agentproto.GuestNetNS},
			},
		},
	}
	if o.sysfs {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}})
	}
	if o.memory > 0 {
		spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &o.memory, Swap: &o.memory}}
	}
	for i := range spec.Linux.Namespaces {
		if ns := &spec.Linux.Namespaces[i]; ns.Type == specs.NetworkNamespace && o.user {
			ns.Path = ""
		}
	}
	if o.user {
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	}
	return spec
}
