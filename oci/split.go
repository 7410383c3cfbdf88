package oci

import (
	"encoding/json"
	"fmt"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// guestCgroups is the guest's cgroup that holds those of its containers.
const guestCgroups = "/runch"

// Split splits a bundle's spec into what the host does and the spec that the guest's
// libcontainer carries out, in which every path is one in the guest. The bundle is not
// changed. Load or Check must have checked it.
//
// Where the two parts meet:
//   - The host shares the root filesystem and the sources of bind mounts, and the
//     guest finds them below in.Shared. For a device node that every kernel has, such
//     as /dev/null, the guest binds its own node, and for an empty tmpfs at /dev/shm
//     one of its own (in.SharedMemory).
//   - Devices of the host are left out of a container that may use any device
//     (host.LeftOut): it gets those of the guest in their place.
//   - The network namespace is the guest's in.NetNS, which mirrors the host's.
//     With a user namespace the guest decides: its first container makes the two
//     together, a later one joins in.NetNS.
//   - Other namespaces with a path are those of the sandbox or of another container
//     in it (in.Joined), or refused.
//   - The guest has its own cgroup for the container, with the exact limits; the
//     host's cgroup of linux.cgroupsPath holds the VM. The CPUs, memory nodes
//     and disks that a spec names are the host's, so cpuset and blockIO are
//     limits of the host's cgroup alone.
//   - A hostname or domainname that is not set is the host's, as under runc.
//   - A seccomp listener is a socket of the host and gets no notification: actions
//     that would notify it are refused.
//   - SELinux labels go to the host's processes: the guest has no policy.
//   - An AppArmor profile is refused where runc refuses it (on a host without
//     AppArmor) and has no effect otherwise: a profile like containers-default or
//     cri-containerd protects the host's kernel, which the VM does in any case, and
//     no profile is loaded in the guest. It must not be put on the VMM or virtiofsd
//     either, since such profiles deny what those need. Callers set one by default
//     wherever the host has AppArmor, so refusing it would refuse every container.
func Split(b *Bundle, id string, in Placement) (*HostPart, *specs.Spec, error) {
	if err := ValidateID(id); err != nil {
		return nil, nil, err
	}
	if b.env == nil {
		return nil, nil, errNotLoaded
	}
	guest, err := clone(b.Spec)
	if err != nil {
		return nil, nil, err
	}
	host := &HostPart{
		Rootfs:         b.Rootfs,
		RootfsReadonly: b.Spec.Root.Readonly,
		CgroupsPath:    b.Spec.Linux.CgroupsPath,
		SelinuxLabel:   b.Spec.Process.SelinuxLabel,
		OOMScoreAdj:    b.Spec.Process.OOMScoreAdj,
	}
	host.Hooks, guest.Hooks = splitHooks(b.Spec.Hooks)
	host.Resources, guest.Linux.Resources = splitResources(guest.Linux.Resources)
	applyMounts(host, guest, b.plans, in)
	if err := splitNamespaces(host, guest, in, b.env); err != nil {
		return nil, nil, err
	}
	host.LeftOut = splitDevices(guest.Linux, b.env)

	guest.Root.Path = path.Join(in.Shared, "rootfs")
	guest.Process = GuestProcess(guest.Process)
	guest.Linux.MountLabel = ""
	if s := guest.Linux.Seccomp; s != nil {
		s.ListenerPath, s.ListenerMetadata = "", ""
	}
	guest.Linux.CgroupsPath = path.Join(guestCgroups, id)
	return host, guest, checkSize(guest)
}

// maxGuestSpec bounds the guest's spec, in bytes of JSON: the agent takes it in
// one message.
const maxGuestSpec = 3 << 20

func checkSize(guest *specs.Spec) error {
	data, err := json.Marshal(guest)
	if err != nil {
		return fmt.Errorf("measure the guest's spec: %w", err)
	}
	if len(data) > maxGuestSpec {
		return fmt.Errorf("the spec is too large: %d bytes, and the guest takes %d", len(data), maxGuestSpec)
	}
	return nil
}

// clone copies a spec deeply, through JSON, which has all of its fields.
func clone(spec *specs.Spec) (*specs.Spec, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("copy the spec: %w", err)
	}
	var copied specs.Spec
	if err := json.Unmarshal(data, &copied); err != nil {
		return nil, fmt.Errorf("copy the spec: %w", err)
	}
	return &copied, nil
}
