package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"runch/hypervisor"
)

// AddNIC plugs in an interface.
func (h *Handle) AddNIC(ctx context.Context, nic hypervisor.NIC) error {
	if err := nic.Validate(); err != nil {
		return err
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
	netdev := map[string]any{"type": "tap", "id": netName(nic.ID)}
	if len(names) == 1 {
		netdev["fd"] = names[0]
	} else {
		netdev["fds"] = strings.Join(names, ":")
	}
	if err := h.monitor.run(ctx, "netdev_add", netdev, nil); err != nil {
		return errors.Join(err, h.closeFDs(ctx, names))
	}
	if err := h.plug(ctx, slot, nicDevice(nic)); err != nil {
		return errors.Join(err, h.monitor.run(ctx, "netdev_del", map[string]any{"id": netName(nic.ID)}, nil))
	}
	return nil
}

// AddShare plugs in a directory.
func (h *Handle) AddShare(ctx context.Context, share hypervisor.Share) error {
	if err := share.Validate(); err != nil {
		return err
	}
	conn, err := dialShare(share.Socket)
	if err == nil {
		defer conn.Close()
		err = h.addShare(ctx, share, conn)
	}
	if err != nil {
		return fmt.Errorf("plug in share %s: %w", share.Tag, err)
	}
	return nil
}

// addShare plugs in a directory that virtiofsd serves on conn.
func (h *Handle) addShare(ctx context.Context, share hypervisor.Share, conn *os.File) error {
	slot, err := h.freeSlot(ctx)
	if err != nil {
		return err
	}
	name := shareName(share.Tag)
	if err := h.monitor.run(ctx, "getfd", map[string]any{"fdname": name}, nil, conn); err != nil {
		return err
	}
	err = h.monitor.run(ctx, "chardev-add", map[string]any{"id": name, "backend": map[string]any{
		"type": "socket", "data": map[string]any{
			"addr": map[string]any{"type": "fd", "data": map[string]any{"str": name}}, "server": false,
		},
	}}, nil)
	if err != nil {
		return errors.Join(err, h.closeFDs(ctx, []string{name}))
	}
	if err := h.plug(ctx, slot, shareDevice(share)); err != nil {
		return errors.Join(err, h.monitor.run(ctx, "chardev-remove", map[string]any{"id": name}, nil))
	}
	return nil
}

// AddDisk plugs in a disk, which QEMU gets as a descriptor.
func (h *Handle) AddDisk(ctx context.Context, disk hypervisor.Disk) error {
	if err := disk.Validate(); err != nil {
		return err
	}
	f, kind, err := openDisk(h.dir, disk)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := h.addDisk(ctx, disk, f, kind); err != nil {
		return fmt.Errorf("plug in disk %s: %w", disk.ID, err)
	}
	return nil
}

func (h *Handle) addDisk(ctx context.Context, disk hypervisor.Disk, f *os.File, kind string) error {
	slot, err := h.freeSlot(ctx)
	if err != nil {
		return err
	}
	var set struct {
		ID int `json:"fdset-id"`
	}
	if err := h.monitor.run(ctx, "add-fd", map[string]any{"opaque": diskName(disk.ID)}, &set, f); err != nil {
		return err
	}
	if err := h.monitor.run(ctx, "blockdev-add", diskNode(disk, kind, set.ID), nil); err != nil {
		return errors.Join(err, h.removeFDSet(ctx, set.ID))
	}
	if err := h.plug(ctx, slot, diskDevice(disk)); err != nil {
		return errors.Join(err, h.dropNode(ctx, disk.ID))
	}
	return nil
}

func (h *Handle) removeFDSet(ctx context.Context, set int) error {
	return h.monitor.run(ctx, "remove-fd", map[string]any{"fdset-id": set}, nil)
}

// dropNode removes a disk's block node, and closes its descriptor in QEMU.
func (h *Handle) dropNode(ctx context.Context, id string) error {
	if err := h.monitor.run(ctx, "blockdev-del", map[string]any{"node-name": diskName(id)}, nil); err != nil {
		return err
	}
	var sets []struct {
		ID  int `json:"fdset-id"`
		FDs []struct {
			Opaque string `json:"opaque"`
		} `json:"fds"`
	}
	if err := h.monitor.run(ctx, "query-fdsets", nil, &sets); err != nil {
		return err
	}
	for _, set := range sets {
		if len(set.FDs) > 0 && set.FDs[0].Opaque == diskName(id) {
			return h.removeFDSet(ctx, set.ID)
		}
	}
	return nil
}

// plug adds a device to a slot.
func (h *Handle) plug(ctx context.Context, slot string, device properties) error {
	device["bus"] = slot
	return h.monitor.run(ctx, "device_add", device, nil)
}

// closeFDs closes descriptors in QEMU that no device uses. It ignores refusals: a failed
// command may have closed them already.
func (h *Handle) closeFDs(ctx context.Context, names []string) error {
	var errs []error
	for _, name := range names {
		err := h.monitor.run(ctx, "closefd", map[string]any{"fdname": name}, nil)
		var refused *hypervisor.RefusedError
		if err != nil && !errors.As(err, &refused) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// pciBus is the part of query-pci's answer that is used.
type pciBus struct {
	Devices []struct {
		ID     string `json:"qdev_id"`
		Bridge *struct {
			Devices []struct{} `json:"devices"`
		} `json:"pci_bridge"`
	} `json:"devices"`
}

// freeSlot returns the name of a PCIe port without a device. It asks QEMU each time,
// because other processes plug in devices too.
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
