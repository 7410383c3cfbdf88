package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"runch/hypervisor"
	"runch/unixsocket"
)

// Handle is a hypervisor.Control.
type Handle struct {
	dir     string
	monitor *monitor
	leaving *leavingCPUs
}

// Control returns control over the VM. QEMU serves one client at a time, so the caller closes
// the Control soon. ctx bounds the wait for other clients.
func (vm *VM) Control(ctx context.Context) (hypervisor.Control, error) {
	conn, err := unixsocket.DialAt(vm.dir, monitorSocket)
	if err != nil {
		return nil, fmt.Errorf("connect to QEMU's monitor: %w", err)
	}
	m := newMonitor(conn)
	if err := m.greet(ctx); err != nil {
		_ = m.Close()
		return nil, err
	}
	return &Handle{dir: vm.cfg.Dir, monitor: m, leaving: &vm.leaving}, nil
}

// Close ends the connection to QEMU.
func (h *Handle) Close() error { return h.monitor.Close() }

// Capabilities returns what this VM supports.
func (h *Handle) Capabilities(ctx context.Context) (hypervisor.Capabilities, error) {
	v := h.monitor.version
	c := hypervisor.Capabilities{VMM: vmmName, Version: fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro)}
	obstacle, err := h.snapshotObstacle(ctx)
	c.Snapshot = obstacle == ""
	return c, err
}

// Pause stops the CPUs.
func (h *Handle) Pause(ctx context.Context) error { return h.monitor.run(ctx, "stop", nil, nil) }

// Resume starts the CPUs again.
func (h *Handle) Resume(ctx context.Context) error { return h.monitor.run(ctx, "cont", nil, nil) }

// Stop ends QEMU, which flushes its disks first.
func (h *Handle) Stop(ctx context.Context) error { return h.monitor.run(ctx, "quit", nil, nil) }

// blockStats is the part of query-blockstats's answer that is used.
type blockStats struct {
	Node  string `json:"node-name"`
	Stats struct {
		ReadBytes  uint64 `json:"rd_bytes"`
		WriteBytes uint64 `json:"wr_bytes"`
		ReadOps    uint64 `json:"rd_operations"`
		WriteOps   uint64 `json:"wr_operations"`
	} `json:"stats"`
}

// Counters returns the counters of the disks. QEMU has none of interfaces.
func (h *Handle) Counters(ctx context.Context) (*hypervisor.Counters, error) {
	var all []blockStats
	if err := h.monitor.run(ctx, "query-blockstats", nil, &all); err != nil {
		return nil, err
	}
	c := &hypervisor.Counters{Disks: make(map[string]hypervisor.DiskCounters), NICs: make(map[string]hypervisor.NICCounters)}
	for _, b := range all {
		if id, ok := strings.CutPrefix(b.Node, diskPrefix); ok {
			s := b.Stats
			c.Disks[id] = hypervisor.DiskCounters{ReadBytes: s.ReadBytes, WriteBytes: s.WriteBytes, ReadOps: s.ReadOps, WriteOps: s.WriteOps}
		}
	}
	return c, nil
}

// unplugged is the data of the events DEVICE_DELETED and DEVICE_UNPLUG_GUEST_ERROR.
type unplugged struct {
	Device string `json:"device"`
}

// Remove unplugs a device and waits until the guest has released it.
func (h *Handle) Remove(ctx context.Context, id string) error {
	if err := h.remove(ctx, id); err != nil {
		return fmt.Errorf("unplug %s: %w", id, err)
	}
	return nil
}

func (h *Handle) remove(ctx context.Context, id string) error {
	var kind string
	// This part of QEMU's object tree has only the devices with an id. The machine's own
	// devices, which cannot be removed, are not in it.
	err := h.monitor.run(ctx, "qom-get", map[string]any{"path": "/machine/peripheral/" + id, "property": "type"}, &kind)
	if err != nil {
		// An earlier Remove may have given up before the guest released the interface. Its
		// backend still has to be removed then.
		if h.monitor.run(ctx, "netdev_del", map[string]any{"id": netName(id)}, nil) == nil {
			return nil
		}
		return err
	}
	if err := h.monitor.run(ctx, "device_del", map[string]any{"id": id}, nil); err != nil {
		return err
	}
	event, err := h.monitor.await(ctx, func(m *message) bool {
		var u unplugged
		return strings.HasPrefix(m.Event, "DEVICE_") && json.Unmarshal(m.Data, &u) == nil && u.Device == id
	})
	if err != nil {
		return err
	}
	if event.Event != "DEVICE_DELETED" {
		return &hypervisor.RefusedError{VMM: vmmName, Request: "device_del", Reasons: []string{"the guest keeps the device"}}
	}
	return h.dropBackend(ctx, kind, id)
}

// dropBackend removes the backend of a device that is gone.
func (h *Handle) dropBackend(ctx context.Context, kind, id string) error {
	switch kind {
	case "virtio-net-pci":
		return h.monitor.run(ctx, "netdev_del", map[string]any{"id": netName(id)}, nil)
	case "vhost-user-fs-pci":
		return h.monitor.run(ctx, "chardev-remove", map[string]any{"id": shareName(id)}, nil)
	case "virtio-blk-pci":
		return h.dropNode(ctx, id)
	default:
		return nil
	}
}
