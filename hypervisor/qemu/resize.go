package qemu

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"runch/hypervisor"
	"runch/state"
)

// Resize changes the number of CPUs and the memory. Those of the boot cannot be
// removed.
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

// cpuSlot is an element of query-hotpluggable-cpus's answer.
type cpuSlot struct {
	Type  string         `json:"type"`
	Props map[string]int `json:"props"`
	// Path is empty for a slot without a CPU.
	Path string `json:"qom-path"`
}

// number is the CPU's. Each CPU of our machines is a socket of its own.
func (s cpuSlot) number() int { return s.Props["socket-id"] }

// id is the device's of a CPU that was added.
func (s cpuSlot) id() string { return fmt.Sprintf("cpu-%d", s.number()) }

func (h *Handle) resizeCPUs(ctx context.Context, want int) error {
	var slots []cpuSlot
	if err := h.monitor.run(ctx, "query-hotpluggable-cpus", nil, &slots); err != nil {
		return err
	}
	slices.SortFunc(slots, func(a, b cpuSlot) int { return a.number() - b.number() })
	var here, free []cpuSlot
	for _, s := range slots {
		if s.Path != "" {
			here = append(here, s)
		} else {
			free = append(free, s)
		}
	}
	if want > len(slots) {
		return refused("device_add", "there can be %d CPUs", len(slots))
	}
	for i := 0; len(here)+i < want; i++ {
		device := properties{"driver": free[i].Type, "id": free[i].id()}
		for name, value := range free[i].Props {
			device[name] = value
		}
		if err := h.monitor.run(ctx, "device_add", device, nil); err != nil {
			return err
		}
	}
	for i := len(here) - 1; i >= want; i-- {
		if !strings.HasSuffix(here[i].Path, "/"+here[i].id()) {
			return refused("device_del", "there are %d CPUs from the boot", i+1)
		}
		if err := h.monitor.run(ctx, "device_del", map[string]any{"id": here[i].id()}, nil); err != nil {
			return err
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

// refused is a refusal by the driver, of a command that QEMU would accept and not
// carry out as it is meant.
func refused(command, format string, args ...any) error {
	return &hypervisor.RefusedError{VMM: vmmName, Request: command, Reasons: []string{fmt.Sprintf(format, args...)}}
}
