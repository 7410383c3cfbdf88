package oci

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const resourcesField = "linux.resources"

// validateResources refuses limits for things that a VM does not have. It accepts limits
// without effect in the guest: swappiness, since the guest has no swap, and useHierarchy,
// since a container's cgroup has no children.
func validateResources(l *specs.Linux) error {
	r := l.Resources
	if r == nil {
		return nil
	}
	if err := validateDeviceRules(r.Devices); err != nil {
		return err
	}
	if err := validateMemory(r.Memory); err != nil {
		return err
	}
	if err := validateCPU(r.CPU); err != nil {
		return err
	}
	if err := validateBlockIO(r.BlockIO); err != nil {
		return err
	}
	for i, limit := range r.HugepageLimits {
		// The guest has no pool of any other size, so a limit of 0 holds there.
		// Kubernetes sets one for each of the host's sizes.
		if limit.Pagesize != guestHugepage && limit.Limit != 0 {
			return fieldErrorf(index(resourcesField+".hugepageLimits", i), "the guest has no huge pages of %q, but of %s", limit.Pagesize, guestHugepage)
		}
	}
	if n := r.Network; n != nil {
		if n.ClassID != nil && *n.ClassID != 0 {
			return fieldErrorf(resourcesField+".network.classID", "packets of a VM cannot be classified by cgroup")
		}
		if len(n.Priorities) > 0 {
			return fieldErrorf(resourcesField+".network.priorities", "packets of a VM cannot be classified by cgroup")
		}
	}
	if len(r.Rdma) > 0 {
		return fieldErrorf(resourcesField+".rdma", "the guest has no RDMA devices")
	}
	return validateUnified(r.Unified)
}

// guestHugepage is the size of huge pages that every x86-64 kernel has.
const guestHugepage = "2MB"

func validateMemory(m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	const field = resourcesField + ".memory"
	limit, swap := value(m.Limit), value(m.Swap)
	switch {
	case limit < -1:
		return fieldErrorf(field+".limit", "invalid memory value: %d", limit)
	case swap < -1:
		return fieldErrorf(field+".swap", "invalid memory value: %d", swap)
	case swap > 0 && limit == 0:
		return fieldErrorf(field+".swap", "unable to set swap limit without memory limit")
	case swap > 0 && swap < limit:
		return fieldErrorf(field+".swap", "memory+swap limit should be >= memory limit")
	case value(m.Kernel) > 0:
		return fieldErrorf(field+".kernel", "the guest's kernel has no limit for kernel memory alone")
	case value(m.KernelTCP) > 0:
		return fieldErrorf(field+".kernelTCP", "the guest's kernel has no limit for TCP memory alone")
	case value(m.DisableOOMKiller):
		return fieldErrorf(field+".disableOOMKiller", "the guest's kernel cannot disable its OOM killer")
	case value(m.Swappiness) > maxSwappiness:
		return fieldErrorf(field+".swappiness", "%d is not between 0 and %d", *m.Swappiness, maxSwappiness)
	}
	return nil
}

const maxSwappiness = 100

func validateCPU(c *specs.LinuxCPU) error {
	if c == nil {
		return nil
	}
	const field = resourcesField + ".cpu"
	if err := validateList(c.Cpus); err != nil {
		return fieldErrorf(field+".cpus", "%w", err)
	}
	if err := validateList(c.Mems); err != nil {
		return fieldErrorf(field+".mems", "%w", err)
	}
	switch {
	case value(c.RealtimeRuntime) != 0:
		return fieldErrorf(field+".realtimeRuntime", "the guest's kernel does not schedule real-time processes by cgroup")
	case value(c.RealtimePeriod) != 0:
		return fieldErrorf(field+".realtimePeriod", "the guest's kernel does not schedule real-time processes by cgroup")
	case value(c.Period) > maxPeriod:
		return fieldErrorf(field+".period", "%d is more than %d", *c.Period, maxPeriod)
	case value(c.Idle) != 0 && value(c.Idle) != 1:
		return fieldErrorf(field+".idle", "%d is neither 0 nor 1", *c.Idle)
	}
	return nil
}

// validateBlockIO checks limits that the host's cgroup holds: the container's disks
// are on the host.
func validateBlockIO(b *specs.LinuxBlockIO) error {
	if b == nil {
		return nil
	}
	const field = resourcesField + ".blockIO"
	if value(b.LeafWeight) != 0 {
		return fieldErrorf(field+".leafWeight", "the container's cgroup has none below it")
	}
	for i, d := range b.WeightDevice {
		if value(d.LeafWeight) != 0 {
			return fieldErrorf(index(field+".weightDevice", i)+".leafWeight", "the container's cgroup has none below it")
		}
	}
	return nil
}

// validateUnified refuses the files of controllers that control nothing in the guest.
func validateUnified(unified map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(unified)) {
		field := key(resourcesField+".unified", name)
		controller, _, _ := strings.Cut(name, ".")
		switch {
		case name == "" || strings.ContainsAny(name, "/\x00"):
			return fieldErrorf(field, "unified resource %q must be a file name (no slashes)", name)
		case controller == "io":
			return fieldErrorf(field, "the disks are the host's: give it as %s.blockIO", resourcesField)
		case controller == "rdma":
			return fieldErrorf(field, "the guest has no RDMA devices")
		}
		if err := validateUnifiedValue(name, strings.TrimSpace(unified[name])); err != nil {
			return fieldErrorf(field, "%w", err)
		}
	}
	return nil
}

// validateUnifiedValue checks the values that the host uses for the VM and its cgroup.
// The guest's kernel checks the others.
func validateUnifiedValue(name, v string) error {
	switch name {
	case "cpu.max":
		v, _, _ = strings.Cut(v, " ")
	case "memory.max", "pids.max":
	case "cpuset.cpus", "cpuset.mems":
		return validateList(v)
	default:
		return nil
	}
	if _, ok := parseMax(v); !ok {
		return fmt.Errorf("%q is neither a number nor max", v)
	}
	return nil
}

// splitResources returns the limits of the VM for the host's cgroup, and those of the
// container for the guest's. It changes r, and returns it as guest.
func splitResources(r *specs.LinuxResources) (host, guest *specs.LinuxResources) {
	if r == nil {
		return nil, nil
	}
	host = &specs.LinuxResources{Memory: clonePtr(r.Memory), CPU: clonePtr(r.CPU), Pids: clonePtr(r.Pids), BlockIO: r.BlockIO}
	r.BlockIO, r.Network = nil, nil
	if r.CPU != nil {
		r.CPU.Cpus, r.CPU.Mems = "", ""
	}
	r.HugepageLimits = slices.DeleteFunc(r.HugepageLimits, func(l specs.LinuxHugepageLimit) bool {
		return l.Pagesize != guestHugepage
	})
	for name, v := range r.Unified {
		if unifiedToHost(host, name, v) {
			delete(r.Unified, name)
		}
	}
	if host.Memory == nil && host.CPU == nil && host.Pids == nil && host.BlockIO == nil {
		host = nil
	}
	return host, r
}

// unifiedToHost copies the value of a cgroup v2 file that the host uses for the VM to the
// field of host with the same meaning: the host may have cgroup v1. It returns true if the
// file must not be set in the guest's cgroup.
func unifiedToHost(host *specs.LinuxResources, name, v string) bool {
	v = strings.TrimSpace(v)
	switch name {
	case "memory.max":
		if n, ok := parseMax(v); ok {
			host.Memory = orNew(host.Memory)
			host.Memory.Limit = &n
		}
	case "pids.max":
		if n, ok := parseMax(v); ok {
			host.Pids = orNew(host.Pids)
			host.Pids.Limit = &n
		}
	case "cpu.max":
		quota, period, _ := strings.Cut(v, " ")
		if n, ok := parseMax(quota); ok {
			host.CPU = orNew(host.CPU)
			host.CPU.Quota = &n
			if p, err := strconv.ParseUint(period, 10, 64); err == nil {
				host.CPU.Period = &p
			}
		}
	case "cpuset.cpus":
		host.CPU = orNew(host.CPU)
		host.CPU.Cpus = v
		return true
	case "cpuset.mems":
		host.CPU = orNew(host.CPU)
		host.CPU.Mems = v
		return true
	}
	return false
}

// parseMax reads what a limit's file in cgroup v2 takes: "max", which is -1, or
// a number, which for memory may end in K, M, G or T.
func parseMax(v string) (int64, bool) {
	if v == "max" {
		return -1, true
	}
	shift := 0
	if v != "" {
		if i := strings.IndexByte("KMGT", v[len(v)-1]&^('a'-'A')); i >= 0 {
			v, shift = v[:len(v)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, false
	}
	return n << shift, true
}

// value is what p points to, or zero.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func orNew[T any](p *T) *T {
	if p == nil {
		p = new(T)
	}
	return p
}

// clonePtr copies what p points to; what that points to in turn is shared and
// must be replaced, not changed.
func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
