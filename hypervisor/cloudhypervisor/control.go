package cloudhypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"runch/hypervisor"
	"runch/plaintext"
	"runch/unixsocket"
)

// Handle is a hypervisor.Control. It keeps no connection: each request has its own.
type Handle struct {
	dir string
	api api
}

// Control returns control over the VM. The error says why the VMM does not answer.
func (vm *VM) Control(ctx context.Context) (hypervisor.Control, error) {
	h := &Handle{dir: vm.cfg.Dir, api: vm.api}
	if _, err := h.api.version(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// Close does nothing: there is no connection to close.
func (h *Handle) Close() error { return nil }

// Capabilities returns what this VM supports. VMs with shares cannot be saved. The VMM does
// it from version 52 on, but 53.0 with virtiofsd 1.13 hangs when it restores one, and the
// share of the VM that was saved no longer answers.
func (h *Handle) Capabilities(ctx context.Context) (hypervisor.Capabilities, error) {
	text, err := h.api.version(ctx)
	if err != nil {
		return hypervisor.Capabilities{}, err
	}
	return hypervisor.Capabilities{
		VMM: vmmName, Version: plaintext.Line(text), NICCounters: true, Snapshot: true,
	}, nil
}

// AddNIC plugs in an interface.
func (h *Handle) AddNIC(ctx context.Context, nic hypervisor.NIC) error {
	if err := nic.Validate(); err != nil {
		return err
	}
	if err := h.api.add(ctx, "vm.add-net", newNet(nic), nic.Tap...); err != nil {
		return fmt.Errorf("plug in interface %s: %w", nic.ID, err)
	}
	return nil
}

// AddDisk plugs in a disk. The VMM opens it: see hypervisor.Disk.
func (h *Handle) AddDisk(ctx context.Context, disk hypervisor.Disk) error {
	if err := disk.Validate(); err != nil {
		return err
	}
	if err := h.api.add(ctx, "vm.add-disk", newDisk(disk)); err != nil {
		return fmt.Errorf("plug in disk %s: %w", disk.ID, err)
	}
	return nil
}

// AddShare plugs in a directory.
func (h *Handle) AddShare(ctx context.Context, share hypervisor.Share) error {
	if err := share.Validate(); err != nil {
		return err
	}
	if err := linkShare(h.dir, share); err != nil {
		return err
	}
	if err := h.api.add(ctx, "vm.add-fs", newFS(share)); err != nil {
		return errors.Join(fmt.Errorf("plug in share %s: %w", share.Tag, err), h.unlinkShare(share.Tag))
	}
	return nil
}

// unlinkShare removes the socket that linkShare made. It does nothing if id is not a share's.
func (h *Handle) unlinkShare(id string) error {
	err := os.Remove(filepath.Join(hypervisor.RunDir(h.dir), shareSocket(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Remove unplugs a device and waits until the guest has released it.
func (h *Handle) Remove(ctx context.Context, id string) error {
	if err := h.remove(ctx, id); err != nil {
		return fmt.Errorf("unplug %s: %w", id, err)
	}
	return h.unlinkShare(id)
}

// remove waits for the event that the guest has released the device: the answer to the
// request says only that the guest was asked. It connects to the events before the request,
// because the event may come before the answer.
func (h *Handle) remove(ctx context.Context, id string) error {
	conn, err := unixsocket.DialAt(h.api.dir, eventsSocket)
	if err != nil {
		return eventsError(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return eventsError(ctx, err)
	}
	if err := h.api.put(ctx, "vm.remove-device", removeRequest{ID: id}); err != nil {
		return err
	}
	in := json.NewDecoder(conn)
	for {
		var e event
		if err := in.Decode(&e); err != nil {
			return eventsError(ctx, err)
		}
		var gone deviceRemoved
		if e.is("vm", "device-removed") && json.Unmarshal(e.Properties, &gone) == nil && gone.ID == id {
			return nil
		}
	}
}

func eventsError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("read the events of %s: %w", vmmName, err)
}

// Pause stops the CPUs.
func (h *Handle) Pause(ctx context.Context) error { return h.api.put(ctx, "vm.pause", nil) }

// Resume starts the CPUs again.
func (h *Handle) Resume(ctx context.Context) error { return h.api.put(ctx, "vm.resume", nil) }

// Stop ends the VMM, which flushes its disks first.
func (h *Handle) Stop(ctx context.Context) error { return h.api.put(ctx, "vmm.shutdown", nil) }

// Counters returns the counters of disks and interfaces.
func (h *Handle) Counters(ctx context.Context) (*hypervisor.Counters, error) {
	var all countersResponse
	if err := h.api.get(ctx, "vm.counters", &all); err != nil {
		return nil, err
	}
	c := &hypervisor.Counters{Disks: make(map[string]hypervisor.DiskCounters), NICs: make(map[string]hypervisor.NICCounters)}
	for id, n := range all {
		if _, isDisk := n["read_ops"]; isDisk {
			c.Disks[id] = hypervisor.DiskCounters{
				ReadBytes: n["read_bytes"], WriteBytes: n["write_bytes"], ReadOps: n["read_ops"], WriteOps: n["write_ops"],
			}
		}
		if _, isNIC := n["rx_frames"]; isNIC {
			c.NICs[id] = hypervisor.NICCounters{
				ReceivedBytes: n["rx_bytes"], ReceivedFrames: n["rx_frames"], SentBytes: n["tx_bytes"], SentFrames: n["tx_frames"],
			}
		}
	}
	return c, nil
}

// Snapshot saves a paused VM. The VMM writes the files itself, as its own user, to whom the
// directory belongs meanwhile.
func (h *Handle) Snapshot(ctx context.Context, dir string) error {
	var vm infoResponse
	if err := h.api.get(ctx, "vm.info", &vm); err != nil {
		return err
	}
	if len(vm.Config.FS) > 0 {
		return &hypervisor.RefusedError{VMM: vmmName, Request: "vm.snapshot", Reasons: []string{"a VM with a virtiofs share could not be restored"}}
	}
	path := hypervisor.InRunDir(h.dir, dir)
	info, err := os.Stat(filepath.Join(hypervisor.RunDir(h.dir), vsockSocket))
	if err != nil {
		return fmt.Errorf("save the VM: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(path, int(stat.Uid), int(stat.Gid)); err != nil {
			return fmt.Errorf("save the VM: %w", err)
		}
	}
	err = h.api.put(ctx, "vm.snapshot", snapshotRequest{Destination: fileURL(dir)})
	if err != nil {
		err = errors.Join(err, removeContents(path))
	}
	if err = errors.Join(err, os.Chown(path, os.Geteuid(), os.Getegid())); err != nil {
		return fmt.Errorf("save the VM: %w", err)
	}
	return nil
}

// removeContents removes what a failed snapshot has left.
func removeContents(dir string) error {
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}
