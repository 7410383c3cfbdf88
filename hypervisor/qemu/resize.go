package qemu

import (
	"context"
	"fmt"

	"runch/hypervisor"
	"runch/state"
)

// Resize changes the number of CPUs and the memory. CPUs and memory of the boot cannot be
// removed. Before it adds CPUs, it waits until the guest has released those that an
// earlier call removed. If the memory is refused, the CPUs stay as they are.
func (h *Handle) Resize(ctx context.Context, size state.VMSize) error {
	var more pluggedMemory
	if size.MemoryMiB != 0 {
		var err error
		if more, err = h.planMemory(ctx, size.MemoryMiB); err != nil {
			return fmt.Errorf("resize to %d MiB: %w", size.MemoryMiB, err)
		}
	}
	if size.CPUs != 0 {
		if err := h.resizeCPUs(ctx, size.CPUs); err != nil {
			return fmt.Errorf("resize to %d CPUs: %w", size.CPUs, err)
		}
	}
	if !more.exists {
		return nil
	}
	if err := h.monitor.run(ctx, "qom-set", map[string]any{
		"path": "/machine/peripheral/" + moreMemory, "property": "requested-size", "value": more.bytes,
	}, nil); err != nil {
		return fmt.Errorf("resize to %d MiB: %w", size.MemoryMiB, err)
	}
	return nil
}

// pluggedMemory is the size that the VM's device for more memory is to have, if there is one.
type pluggedMemory struct {
	exists bool
	bytes  int64
}

// planMemory gives what the device is to have in a VM of that many MiB. A size that cannot
// be had is a *hypervisor.RefusedError.
func (h *Handle) planMemory(ctx context.Context, mib int) (pluggedMemory, error) {
	var now struct {
		Base uint64 `json:"base-memory"`
	}
	if err := h.monitor.run(ctx, "query-memory-size-summary", nil, &now); err != nil {
		return pluggedMemory{}, err
	}
	more := int64(mib)<<20 - int64(now.Base) // #nosec G115 -- no machine has that much
	if more < 0 {
		return pluggedMemory{}, refused("qom-set", "there are %d MiB from the boot", now.Base>>20)
	}
	var devices []struct {
		Data struct {
			Max int64 `json:"max-size"`
		} `json:"data"`
	}
	if err := h.monitor.run(ctx, "query-memory-devices", nil, &devices); err != nil {
		return pluggedMemory{}, err
	}
	exists := len(devices) > 0
	if more > 0 && (!exists || more > devices[0].Data.Max) {
		return pluggedMemory{}, refused("qom-set", "%d MiB are more than there can be", mib)
	}
	return pluggedMemory{exists, more}, nil
}

// refused is the driver's own refusal of a request that QEMU would accept but not carry out
// correctly.
func refused(command, format string, args ...any) error {
	return &hypervisor.RefusedError{VMM: vmmName, Request: command, Reasons: []string{fmt.Sprintf(format, args...)}}
}
