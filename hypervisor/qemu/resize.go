package qemu

import (
	"context"
	"fmt"

	"runch/hypervisor"
	"runch/state"
)

// Resize changes the number of CPUs and the memory. CPUs and memory of the boot cannot be
// removed. Before it adds CPUs, it waits until the guest has released those that an
// earlier call removed.
func (h *Handle) Resize(ctx context.Context, size state.VMSize) error {
	if size.CPUs != 0 {
		if err := h.resizeCPUs(ctx, size.CPUs); err != nil {
			return fmt.Errorf("resize to %d CPUs: %w", size.CPUs, err)
		}
	}
	if size.MemoryMiB != 0 {
		if err := h.resizeMemory(ctx, size.MemoryMiB); err != nil {
			return fmt.Errorf("resize to %d MiB: %w", size.MemoryMiB, err)
		}
	}
	return nil
}

func (h *Handle) resizeMemory(ctx context.Context, mib int) error {
	var now struct {
		Base uint64 `json:"base-memory"`
	}
	if err := h.monitor.run(ctx, "query-memory-size-summary", nil, &now); err != nil {
		return err
	}
	more := int64(mib)<<20 - int64(now.Base) // #nosec G115 -- no machine has that much
	if more < 0 {
		return refused("qom-set", "there are %d MiB from the boot", now.Base>>20)
	}
	var devices []struct {
		Data struct {
			Max int64 `json:"max-size"`
		} `json:"data"`
	}
	if err := h.monitor.run(ctx, "query-memory-devices", nil, &devices); err != nil {
		return err
	}
	switch {
	case more == 0 && len(devices) == 0:
		return nil
	case len(devices) == 0 || more > devices[0].Data.Max:
		return refused("qom-set", "%d MiB are more than there can be", mib)
	}
	return h.monitor.run(ctx, "qom-set", map[string]any{
		"path": "/machine/peripheral/" + moreMemory, "property": "requested-size", "value": more,
	}, nil)
}

// refused is the driver's own refusal of a request that QEMU would accept but not carry out
// correctly.
func refused(command, format string, args ...any) error {
	return &hypervisor.RefusedError{VMM: vmmName, Request: command, Reasons: []string{fmt.Sprintf(format, args...)}}
}
