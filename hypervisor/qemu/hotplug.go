package qemu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"runch/hypervisor"
)

// Handle is a hold on a running VM by another process than the one that booted
// it. It is for one goroutine.
type Handle struct {
	monitor *monitor
}

// Attach takes hold of the VM whose sandbox directory is dir. QEMU serves one
// such client at a time: the caller closes the handle soon, and ctx bounds the
// wait for others.
func Attach(ctx context.Context, dir string) (*Handle, error) {
	m, err := dialMonitor(ctx, filepath.Join(dir, monitorSocket))
	if err != nil {
		return nil, err
	}
	if err := m.greet(ctx); err != nil {
		_ = m.Close()
		return nil, err
	}
	return &Handle{monitor: m}, nil
}

// Close lets go of the VM.
func (h *Handle) Close() error { return h.monitor.Close() }

// AddNIC plugs in an interface. Nothing of it is left behind when it fails. All
// slots taken is hypervisor.ErrNoSlot.
func (h *Handle) AddNIC(ctx context.Context, nic hypervisor.NIC) error {
	if err := nic.Validate(); err != nil {
		return err //nolint:wrapcheck // it says all
	}
	if err := h.addNIC(ctx, nic); err != nil {
		return fmt.Errorf("plug in interface %s: %w", nic.ID, err)
	}
	return nil
}

func (h *Handle) addNIC(ctx context.Context, nic hypervisor.NIC) error {
	slot, err := h.freeSlot(ctx)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(nic.Tap))
	for i, tap := range nic.Tap {
		name := fmt.Sprintf("%s-q%d", nic.ID, i)
		if err := h.monitor.run(ctx, "getfd", map[string]any{"fdname": name}, nil, tap); err != nil {
			return errors.Join(err, h.closeFDs(ctx, names))
		}
		names = append(names, name)
	}
	netdev := map[string]any{"type": "tap", "id": "net-" + nic.ID}
	if len(names) == 1 {
		netdev["fd"] = names[0]
	} else {
		netdev["fds"] = strings.Join(names, ":")
	}
	if err := h.monitor.run(ctx, "netdev_add", netdev, nil); err != nil {
		return errors.Join(err, h.closeFDs(ctx, names))
	}
	device := map[string]any{
		"driver": "virtio-net-pci", "id": nic.ID, "netdev": "net-" + nic.ID,
		"bus": slot, "mac": nic.MAC.String(), "romfile": "",
	}
	if nic.MTU != 0 {
		device["host_mtu"] = nic.MTU
	}
	if n := len(nic.Tap); n > 1 {
		device["mq"], device["vectors"] = true, 2*n+2
	}
	if err := h.monitor.run(ctx, "device_add", device, nil); err != nil {
		return errors.Join(err, h.monitor.run(ctx, "netdev_del", map[string]any{"id": "net-" + nic.ID}, nil))
	}
	return nil
}

// closeFDs gives back descriptors that no netdev has taken.
func (h *Handle) closeFDs(ctx context.Context, names []string) error {
	var errs []error
	for _, name := range names {
		err := h.monitor.run(ctx, "closefd", map[string]any{"fdname": name}, nil)
		var refused *qmpError
		if err != nil && !errors.As(err, &refused) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// pciBus is the part of query-pci's answer that is needed.
type pciBus struct {
	Devices []struct {
		ID     string `json:"qdev_id"`
		Bridge *struct {
			Devices []struct{} `json:"devices"`
		} `json:"pci_bridge"`
	} `json:"devices"`
}

// freeSlot gives the name of a port with nothing behind it. QEMU knows what is
// plugged where; a record of ours could be wrong.
func (h *Handle) freeSlot(ctx context.Context) (string, error) {
	var buses []pciBus
	if err := h.monitor.run(ctx, "query-pci", nil, &buses); err != nil {
		return "", err
	}
	for _, bus := range buses {
		for _, d := range bus.Devices {
			number, isSlot := strings.CutPrefix(d.ID, slotPrefix)
			if _, err := strconv.Atoi(number); isSlot && err == nil && d.Bridge != nil && len(d.Bridge.Devices) == 0 {
				return d.ID, nil
			}
		}
	}
	return "", hypervisor.ErrNoSlot
}
