package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// cpuSlot is an element of query-hotpluggable-cpus's answer.
type cpuSlot struct {
	Type  string         `json:"type"`
	Props map[string]int `json:"props"`
	// Path is empty for a slot without a CPU.
	Path string `json:"qom-path"`
}

// number is the CPU's number. Each CPU of our machines is a socket of its own.
func (s cpuSlot) number() int { return s.Props["socket-id"] }

// id is the device id that the slot's CPU gets when it is added.
func (s cpuSlot) id() string { return fmt.Sprintf("cpu-%d", s.number()) }

// cpuSlots are a machine's CPU slots, each list in the order of their numbers.
type cpuSlots struct {
	// free slots have no CPU. staying and leaving slots have one; the guest was asked to
	// release those in leaving.
	free, staying, leaving []cpuSlot
}

// leavingCPUs are the ids of the CPUs that the guest was asked to release. QEMU lists these
// like other CPUs until the guest has released them, so the driver has to remember them.
type leavingCPUs struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (l *leavingCPUs) add(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = make(map[string]bool)
	}
	l.ids[id] = true
}

// sort divides the slots into free, staying and leaving ones, and forgets the CPUs that the
// guest has released.
func (l *leavingCPUs) sort(slots []cpuSlot) cpuSlots {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all cpuSlots
	for _, s := range slots {
		switch {
		case s.Path == "":
			delete(l.ids, s.id())
			all.free = append(all.free, s)
		case l.ids[s.id()]:
			all.leaving = append(all.leaving, s)
		default:
			all.staying = append(all.staying, s)
		}
	}
	return all
}

func (h *Handle) resizeCPUs(ctx context.Context, want int) error {
	slots, err := h.cpuSlots(ctx)
	if err != nil {
		return err
	}
	if there := len(slots.free) + len(slots.staying) + len(slots.leaving); want > there {
		return refused("device_add", "there can be %d CPUs", there)
	}
	if want <= len(slots.staying) {
		return h.removeCPUs(ctx, slots.staying, want)
	}
	for len(slots.leaving) > 0 {
		if err := h.awaitRelease(ctx, slots.leaving); err != nil {
			return err
		}
		if slots, err = h.cpuSlots(ctx); err != nil {
			return err
		}
	}
	return h.addCPUs(ctx, slots.free[:want-len(slots.staying)])
}

func (h *Handle) cpuSlots(ctx context.Context) (cpuSlots, error) {
	var slots []cpuSlot
	if err := h.monitor.run(ctx, "query-hotpluggable-cpus", nil, &slots); err != nil {
		return cpuSlots{}, err
	}
	slices.SortFunc(slots, func(a, b cpuSlot) int { return a.number() - b.number() })
	return h.leaving.sort(slots), nil
}

// awaitRelease waits for QEMU's event that the guest has released one of these CPUs. The
// event may be of an earlier removal, so the caller has to list the slots again.
func (h *Handle) awaitRelease(ctx context.Context, cpus []cpuSlot) error {
	_, err := h.monitor.await(ctx, func(m *message) bool {
		var u unplugged
		return m.Event == "DEVICE_DELETED" && json.Unmarshal(m.Data, &u) == nil &&
			slices.ContainsFunc(cpus, func(s cpuSlot) bool { return s.id() == u.Device })
	})
	if err != nil {
		return fmt.Errorf("the guest has not yet released the CPUs that it is to have no longer: %w", err)
	}
	return nil
}

func (h *Handle) addCPUs(ctx context.Context, slots []cpuSlot) error {
	for _, s := range slots {
		device := properties{"driver": s.Type, "id": s.id()}
		for name, value := range s.Props {
			device[name] = value
		}
		if err := h.monitor.run(ctx, "device_add", device, nil); err != nil {
			return err
		}
	}
	return nil
}

// removeCPUs asks the guest to release all CPUs after the first want, the last one first.
func (h *Handle) removeCPUs(ctx context.Context, cpus []cpuSlot, want int) error {
	for i := len(cpus) - 1; i >= want; i-- {
		if !strings.HasSuffix(cpus[i].Path, "/"+cpus[i].id()) {
			return refused("device_del", "there are %d CPUs from the boot", i+1)
		}
		if err := h.monitor.run(ctx, "device_del", map[string]any{"id": cpus[i].id()}, nil); err != nil {
			return err
		}
		h.leaving.add(cpus[i].id())
	}
	return nil
}
