package sandbox

import (
	"context"
	"fmt"

	"runch/cgroup"
	"runch/hypervisor"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// mebibytes is an amount of memory in MiB, rounded up.
func mebibytes(bytes int64) int {
	const mib = 1 << 20
	return int((bytes + mib - 1) / mib)
}

// steps rounds an amount of memory, in MiB, up to what memory is added in.
func steps(mib int) int {
	return (mib + hypervisor.HotplugStepMiB - 1) / hypervisor.HotplugStepMiB * hypervisor.HotplugStepMiB
}

// size is what the VM is made with.
func (o *vmOrders) size() state.VMSize {
	return state.VMSize{CPUs: o.CPUs, MemoryMiB: o.MemoryMiB}
}

// sizeFor gives the size that a VM has to have for a container with these
// resources. It is never less than that of the boot: a VMM cannot take that
// back. Without a limit the VM stays as it is. A quota is a limit and no promise,
// so CPUs that the VM cannot have are no error; memory that a program was told
// to have is.
func sizeFor(s *state.Sandbox, r *specs.LinuxResources) (state.VMSize, error) {
	size := s.Now
	host := oci.HostPart{Resources: r}
	if cpus, ok := host.CPUs(); ok {
		size.CPUs = min(max(cpus, s.Boot.CPUs), s.MaxCPUs)
	}
	if limit, ok := host.MemoryLimit(); ok {
		more := mebibytes(limit) + s.OverheadMiB - s.Boot.MemoryMiB
		size.MemoryMiB = s.Boot.MemoryMiB + steps(max(0, more))
	}
	if size.MemoryMiB > s.MaxMemoryMiB {
		return size, fmt.Errorf("the memory limit needs a VM of %d MiB, and it was made for at most %d (max_memory of the configuration)", size.MemoryMiB, s.MaxMemoryMiB)
	}
	return size, nil
}

// resize brings a VM to a size, and remembers it.
func (r *Runtime) resize(ctx context.Context, dir *state.Dir, s *state.Sandbox, to state.VMSize) error {
	if to == s.Now {
		return nil
	}
	vm, err := attachVM(ctx, s.VMM, s.Dir)
	if err != nil {
		return err
	}
	defer vm.Close()
	// A value that stays is none to the VMM, which may have refused it before.
	var order hypervisor.Size
	if to.CPUs != s.Now.CPUs {
		order.CPUs = to.CPUs
	}
	if to.MemoryMiB != s.Now.MemoryMiB {
		order.MemoryMiB = to.MemoryMiB
	}
	if err := vm.Resize(ctx, order); err != nil {
		return fmt.Errorf("resize the VM: %w", err)
	}
	s.Now = to
	return dir.SaveSandbox(s)
}

// hostLimits are those of the host's cgroup for a container with these resources:
// the overheads are added, and the VM's memory is in them that it cannot give
// back, which is more than that where the limit is below that of its making.
func hostLimits(s *state.Sandbox, c *state.Container, r *specs.LinuxResources) cgroup.Limits {
	l := cgroup.Limits{Resources: r, Overhead: c.Overhead}
	host := oci.HostPart{Resources: r}
	if limit, ok := host.MemoryLimit(); ok {
		if more := int64(s.Boot.MemoryMiB-s.OverheadMiB)<<20 - limit; more > 0 {
			l.Overhead += more
		}
	}
	return l
}
