package oci

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxResources bounds what DecodeResources reads, in bytes.
const maxResources = 1 << 20

// DecodeResources reads linux.resources as JSON, the form in which callers send
// changes of them. As in encoding/json, the case of names does not matter.
func DecodeResources(r io.Reader) (*specs.LinuxResources, error) {
	var res specs.LinuxResources
	if err := json.NewDecoder(io.LimitReader(r, maxResources)).Decode(&res); err != nil {
		return nil, fmt.Errorf("decode the resources: %w", err)
	}
	return &res, nil
}

// SplitUpdate splits a change of a container's resources as Split splits the
// resources themselves. host is all that the host's cgroup and the VM hold from now
// on: what they held before (nil for nothing), with the change applied. guest is the
// guest's part of the change alone. Errors name the field that cannot be honoured.
// Device rules in the change are ignored, as with runc: containerd sends all resources
// of a container's spec with each update.
func SplitUpdate(before, change *specs.LinuxResources) (host, guest *specs.LinuxResources, err error) {
	copied, err := copyResources(change)
	if err != nil {
		return nil, nil, err
	}
	copied.Devices = nil
	completeUpdate(copied)
	if err := validateResources(&specs.Linux{Resources: MergeResources(before, copied)}); err != nil {
		return nil, nil, err
	}
	host, guest = splitResources(copied)
	return MergeResources(before, host), guest, nil
}

// completeUpdate adds the values that the kernel requires together with the change's.
func completeUpdate(r *specs.LinuxResources) {
	if m := r.Memory; m != nil && value(m.Limit) == -1 && m.Swap == nil {
		m.Swap = new(int64) // without a limit of memory there can be none of swap
	}
	if c := r.CPU; c != nil && c.Idle != nil && c.Shares == nil {
		c.Shares = new(uint64) // an idle cgroup takes no cpu.weight (EINVAL)
	}
}

// MergeResources returns the resources of before with the change applied. A value
// that the change does not set, or sets to 0 where runc takes that for unset, stays.
// Files of cgroup v2 (unified) are the change's alone: an older file would undo what
// a field of the change sets. Neither argument is changed.
func MergeResources(before, change *specs.LinuxResources) *specs.LinuxResources {
	merged := specs.LinuxResources{}
	if before != nil {
		merged = *before
	}
	merged.Unified = nil
	if change == nil {
		return &merged
	}
	merged.Unified = maps.Clone(change.Unified)
	merged.Memory = mergeMemory(merged.Memory, change.Memory)
	merged.CPU = mergeCPU(merged.CPU, change.CPU)
	merged.BlockIO = mergeBlockIO(merged.BlockIO, change.BlockIO)
	if change.Pids != nil && change.Pids.Limit != nil {
		merged.Pids = change.Pids
	}
	if len(change.HugepageLimits) > 0 {
		merged.HugepageLimits = change.HugepageLimits
	}
	if change.Network != nil {
		merged.Network = change.Network
	}
	if len(change.Rdma) > 0 {
		merged.Rdma = change.Rdma
	}
	return &merged
}

func mergeMemory(before, change *specs.LinuxMemory) *specs.LinuxMemory {
	if change == nil {
		return before
	}
	m := orNew(clonePtr(before))
	setIfGiven(&m.Limit, change.Limit)
	setIfGiven(&m.Reservation, change.Reservation)
	setIfGiven(&m.Swap, change.Swap)
	m.CheckBeforeUpdate = change.CheckBeforeUpdate
	return m
}

func mergeCPU(before, change *specs.LinuxCPU) *specs.LinuxCPU {
	if change == nil {
		return before
	}
	c := orNew(clonePtr(before))
	setIfGiven(&c.Shares, change.Shares)
	setIfGiven(&c.Burst, change.Burst)
	setIfGiven(&c.Idle, change.Idle)
	setIfGiven(&c.RealtimePeriod, change.RealtimePeriod)
	setIfGiven(&c.RealtimeRuntime, change.RealtimeRuntime)
	// cpu.max holds both: where the change has only one, the other stays.
	if value(change.Quota) != 0 {
		c.Quota = change.Quota
	}
	if value(change.Period) != 0 {
		c.Period = change.Period
	}
	if change.Cpus != "" {
		c.Cpus = change.Cpus
	}
	if change.Mems != "" {
		c.Mems = change.Mems
	}
	return c
}

func mergeBlockIO(before, change *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	if change == nil {
		return before
	}
	b := orNew(clonePtr(before))
	setIfGiven(&b.Weight, change.Weight)
	setIfGiven(&b.LeafWeight, change.LeafWeight)
	b.WeightDevice = mergeDevices(b.WeightDevice, change.WeightDevice, func(d specs.LinuxWeightDevice) device {
		return device{d.Major, d.Minor}
	})
	for _, list := range []struct {
		to   *[]specs.LinuxThrottleDevice
		from []specs.LinuxThrottleDevice
	}{
		{&b.ThrottleReadBpsDevice, change.ThrottleReadBpsDevice},
		{&b.ThrottleWriteBpsDevice, change.ThrottleWriteBpsDevice},
		{&b.ThrottleReadIOPSDevice, change.ThrottleReadIOPSDevice},
		{&b.ThrottleWriteIOPSDevice, change.ThrottleWriteIOPSDevice},
	} {
		*list.to = mergeDevices(*list.to, list.from, func(d specs.LinuxThrottleDevice) device {
			return device{d.Major, d.Minor}
		})
	}
	return b
}

// device names a block device.
type device struct{ major, minor int64 }

// mergeDevices replaces the entries of devices that the change has too, and
// adds the others.
func mergeDevices[T any](before, change []T, of func(T) device) []T {
	merged := slices.Clone(before)
	for _, d := range change {
		at := slices.IndexFunc(merged, func(m T) bool { return of(m) == of(d) })
		if at < 0 {
			merged = append(merged, d)
			continue
		}
		merged[at] = d
	}
	return merged
}

// setIfGiven replaces a value by another one that is not nil.
func setIfGiven[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

// copyResources copies resources deeply.
func copyResources(r *specs.LinuxResources) (*specs.LinuxResources, error) {
	spec, err := clone(&specs.Spec{Linux: &specs.Linux{Resources: r}})
	if err != nil {
		return nil, err
	}
	return orNew(spec.Linux.Resources), nil
}
