package qemu

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"runch/hypervisor"
	"runch/unixsocket"
)

// properties are the properties of a device, as arguments of QMP. options writes them for
// the command line.
type properties map[string]any

// moreMemory is the id of the virtio-mem device, by which memory is added.
const moreMemory = "more"

// options writes properties in the order of their names, the driver first.
func options(p properties) string {
	text := ""
	if driver, ok := p["driver"]; ok {
		text = fmt.Sprint(driver)
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		value := p[name]
		switch v := value.(type) {
		case bool:
			value = map[bool]string{true: "on", false: "off"}[v]
		case string:
			value = escape(v)
		}
		if name != "driver" {
			text += fmt.Sprintf(",%s=%v", name, value)
		}
	}
	return text
}

func netName(id string) string    { return "net-" + id }
func diskName(id string) string   { return diskPrefix + id }
func shareName(tag string) string { return "fs-" + tag }

// diskPrefix begins the names of block nodes.
const diskPrefix = "disk-"

func nicDevice(nic hypervisor.NIC) properties {
	p := properties{
		"driver": "virtio-net-pci", "id": nic.ID, "netdev": netName(nic.ID), "mac": nic.MAC.String(), "romfile": "",
	}
	if nic.MTU != 0 {
		p["host_mtu"] = nic.MTU
	}
	if n := len(nic.Tap); n > 1 {
		// One interrupt for each queue, one for the configuration, one for control.
		p["mq"], p["vectors"] = true, 2*n+2
	}
	return p
}

func shareDevice(s hypervisor.Share) properties {
	return properties{
		"driver": "vhost-user-fs-pci", "id": s.Tag, "chardev": shareName(s.Tag), "tag": s.Tag, "romfile": "",
		// The default, 128 requests, is slow.
		"queue-size": 1024,
	}
}

func diskDevice(d hypervisor.Disk) properties {
	return properties{"driver": "virtio-blk-pci", "id": d.ID, "drive": diskName(d.ID), "serial": serialOf(d.ID), "romfile": ""}
}

// serialOf is the serial number by which the guest identifies the disk. virtio-blk has room
// for 20 bytes.
func serialOf(id string) string { return id[:min(len(id), 20)] }

// diskNode is the block node behind a disk. Its file is that of a descriptor set in QEMU.
func diskNode(d hypervisor.Disk, kind string, set int) properties {
	return properties{
		"driver": kind, "node-name": diskName(d.ID), "filename": fmt.Sprintf("/dev/fdset/%d", set), "read-only": d.ReadOnly,
	}
}

// planDisk is a disk's descriptor in QEMU, and the block driver for it.
type planDisk struct {
	fd   int
	kind string
}

// openDisk opens a disk's file or block device for QEMU, whose user may lack the permission.
// It also returns the block driver for it.
func openDisk(dir string, d hypervisor.Disk) (*os.File, string, error) {
	flag := os.O_RDWR
	if d.ReadOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(hypervisor.InRunDir(dir, d.Path), flag, 0)
	if err != nil {
		return nil, "", fmt.Errorf("open disk %s: %w", d.ID, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Mode().IsRegular():
		return f, "file", nil
	case info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0:
		return f, "host_device", nil
	default:
		err = fmt.Errorf("%s is neither a file nor a block device", strings.TrimSpace(d.Path))
	}
	_ = f.Close()
	return nil, "", fmt.Errorf("open disk %s: %w", d.ID, err)
}

// dialShare connects to virtiofsd.
func dialShare(path string) (*os.File, error) {
	conn, err := unixsocket.Dial(path)
	if err != nil {
		return nil, fmt.Errorf("connect to virtiofsd: %w", err)
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		return nil, fmt.Errorf("connect to virtiofsd: %w", err)
	}
	return f, nil
}
