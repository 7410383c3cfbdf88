package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"runch/hypervisor"
	"runch/state"
	"runch/unixsocket"
)

// TestControl makes every request of a Control, and checks them against the
// documentation.
func TestControl(t *testing.T) {
	r, h := booted(t, fakeOptions{})
	ctx := bounded(t)
	read, tap, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer tap.Close()
	socket := filepath.Join(r.cfg.Dir, "more.sock")
	l, err := unixsocket.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write(t, hypervisor.InRunDir(r.cfg.Dir, "disk"), "bytes", 0o600)
	nic := hypervisor.NIC{ID: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Tap: []*os.File{tap}}
	for name, call := range map[string]func() error{
		"AddNIC":   func() error { return h.AddNIC(ctx, nic) },
		"AddDisk":  func() error { return h.AddDisk(ctx, hypervisor.Disk{ID: "disk0", Path: "disk"}) },
		"AddShare": func() error { return h.AddShare(ctx, hypervisor.Share{Tag: "more", Socket: socket}) },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	link := filepath.Join(hypervisor.RunDir(r.cfg.Dir), shareSocket("more"))
	if _, err := os.Stat(link); err != nil {
		t.Errorf("the share's socket: %v", err)
	}
	for _, id := range []string{"eth0", "disk0", "more"} {
		if err := h.Remove(ctx, id); err != nil {
			t.Errorf("Remove %s: %v", id, err)
		}
	}
	if _, err := os.Stat(link); err == nil {
		t.Error("the share's socket is left")
	}
	for name, call := range map[string]func() error{
		"Resize": func() error { return h.Resize(ctx, state.VMSize{CPUs: 2, MemoryMiB: 384}) },
		"Pause":  func() error { return h.Pause(ctx) },
		"Resume": func() error { return h.Resume(ctx) },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	counters, err := h.Counters(ctx)
	want := &hypervisor.Counters{
		Disks: map[string]hypervisor.DiskCounters{"disk0": {ReadBytes: 1, WriteBytes: 2, ReadOps: 3, WriteOps: 4}},
		NICs:  map[string]hypervisor.NICCounters{"eth0": {ReceivedBytes: 5, ReceivedFrames: 6, SentBytes: 7, SentFrames: 8}},
	}
	if diff := cmp.Diff(want, counters); err != nil || diff != "" {
		t.Errorf("Counters: %v %s", err, diff)
	}
	if can, err := h.Capabilities(ctx); err != nil || !can.Snapshot || can.SnapshotShare || can.Version != "53.0.0" {
		t.Errorf("Capabilities: %+v, %v", can, err)
	}
	if err := h.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := r.ended(); err != nil {
		t.Errorf("Wait: %v", err)
	}
	if !slices.ContainsFunc(r.requests(), func(q fakeRequest) bool { return q.Endpoint == "vm.add-net" && q.Files == 1 }) {
		t.Error("no tap came with vm.add-net")
	}
}

// TestRefused: requests that the VMM refuses, and those that it would wrongly accept.
func TestRefused(t *testing.T) {
	r, h := booted(t, fakeOptions{})
	ctx := bounded(t)
	for name, call := range map[string]func() error{
		"Remove":          func() error { return h.Remove(ctx, "none") },
		"too many CPUs":   func() error { return h.Resize(ctx, state.VMSize{CPUs: 5}) },
		"too much memory": func() error { return h.Resize(ctx, state.VMSize{MemoryMiB: 513}) },
		"too little":      func() error { return h.Resize(ctx, state.VMSize{MemoryMiB: 255}) },
		"no disk":         func() error { return h.AddDisk(ctx, hypervisor.Disk{ID: "a", Path: "none"}) },
		"not paused": func() error {
			if err := os.Mkdir(hypervisor.InRunDir(r.cfg.Dir, "saved"), 0o700); err != nil {
				return err
			}
			return h.Snapshot(ctx, "saved")
		},
	} {
		var refused *hypervisor.RefusedError
		if err := call(); !errors.As(err, &refused) || len(refused.Reasons) == 0 {
			t.Errorf("%s: %v, want a RefusedError", name, err)
		}
	}
	socket := filepath.Join(r.cfg.Dir, "fs.sock")
	l, err := unixsocket.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := h.AddShare(ctx, hypervisor.Share{Tag: "files", Socket: socket}); err != nil {
		t.Fatalf("AddShare: %v", err)
	}
	if err := h.Pause(ctx); err != nil {
		t.Fatalf("Pause: %v", err)
	}
	var refused *hypervisor.RefusedError
	if err := h.Snapshot(ctx, "saved"); !errors.As(err, &refused) || !strings.Contains(err.Error(), "share") {
		t.Errorf("Snapshot with a share: %v, want a RefusedError", err)
	}
	if err := h.AddShare(ctx, hypervisor.Share{Tag: "a", Socket: "/none"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a share without a socket: %v", err)
	}
	write(t, hypervisor.InRunDir(r.cfg.Dir, "disk"), "bytes", 0o600)
	for i := range maxDevices + 1 {
		if err = h.AddDisk(ctx, hypervisor.Disk{ID: fmt.Sprintf("d%d", i), Path: "disk"}); err != nil {
			break
		}
	}
	if !errors.Is(err, hypervisor.ErrNoSlot) {
		t.Errorf("too many disks: %v, want ErrNoSlot", err)
	}
	r.requests()
}

// TestControlFaults: a request to a VMM that misbehaves ends with an error of one line.
func TestControlFaults(t *testing.T) {
	for _, fault := range []fault{refuse, plain, hang, cut, malformed, endless, die, ignore} {
		t.Run(string(fault), func(t *testing.T) {
			_, h := booted(t, fakeOptions{At: "vm.remove-device", Fault: fault})
			cause := errors.New("enough")
			ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("the test's own time is over"))
			defer cancel()
			if fault == hang || fault == ignore {
				ctx, cancel = context.WithTimeoutCause(ctx, 300*time.Millisecond, cause)
				defer cancel()
			}
			err := h.Remove(ctx, "eth0")
			if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("Remove: %q, want one line", err)
			}
			if (fault == hang || fault == ignore) && !errors.Is(err, cause) {
				t.Errorf("Remove: %v, want the context's cause", err)
			}
		})
	}
}

// TestSaveAndRestore: a VM is saved and another one made of it.
func TestSaveAndRestore(t *testing.T) {
	r, h := booted(t, fakeOptions{})
	ctx := bounded(t)
	dir := hypervisor.InRunDir(r.cfg.Dir, "saved")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Snapshot(ctx, "saved"); err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	read, tap, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer tap.Close()
	cfg := testConfig(t, fakeOptions{})
	cfg.Restore = dir
	cfg.NICs = []hypervisor.NIC{{ID: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Tap: []*os.File{tap}}}
	second := newRig(t, cfg)
	if err := second.Boot(ctx); err != nil {
		t.Fatalf("Boot: %v", err)
	}
	second.echo()
	var endpoints []string
	for _, request := range second.requests() {
		endpoints = append(endpoints, fmt.Sprintf("%s %d", request.Endpoint, request.Files))
	}
	if diff := cmp.Diff([]string{"vmm.ping 0", "vm.restore 1", "vm.resume 0"}, endpoints); diff != "" {
		t.Error(diff)
	}
}

// TestParallelRemovals: each of several Handles gets the event of its own device.
func TestParallelRemovals(t *testing.T) {
	r, h := booted(t, fakeOptions{})
	ctx := bounded(t)
	write(t, hypervisor.InRunDir(r.cfg.Dir, "disk"), "bytes", 0o600)
	var all sync.WaitGroup
	for i := range 10 {
		id := fmt.Sprintf("d%d", i)
		if err := h.AddDisk(ctx, hypervisor.Disk{ID: id, Path: "disk"}); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			own, err := r.Control(ctx)
			if err == nil {
				err = own.Remove(ctx, id)
			}
			if err != nil {
				t.Errorf("remove %s: %v", id, err)
			}
		})
	}
	all.Wait()
}
