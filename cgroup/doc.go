// Package cgroup places a sandbox's host processes (shim, VMM, virtiofsd) into
// the cgroup that the caller asked for in linux.cgroupsPath.
//
// The limits of the spec are meant for the container, and the guest's own
// cgroups hold the container to exactly them. The host's cgroup holds the VM to
// what the container may take of the host:
//
//   - memory (limit, reservation, memory+swap): the container's figure and the
//     overhead of a VM. Guest memory is shared memory of the host, charged to
//     the cgroup of the process that touches a page first; all processes that
//     can are in this cgroup.
//   - cpu, cpuset, block I/O: unchanged.
//   - pids: not set. The threads of the VMM and virtiofsd are not processes of the
//     container, and a limit of 20 would kill the VM, not the container.
//   - devices: not set. The VMM needs /dev/kvm, /dev/net/tun and /dev/vhost-*,
//     which no container spec allows; the guest has no device of the host.
//   - disabling the OOM killer, huge pages, RDMA, network classes and
//     priorities: not set. They are about what happens inside the guest.
//   - unified: not set. Package oci turns the files that concern the VM into fields.
//
// The package starts and kills nothing; Starve has the kernel kill.
package cgroup
