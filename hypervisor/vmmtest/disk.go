package vmmtest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestports"
)

// diskBytes is the size of the tests' disks.
const diskBytes = 1 << 20

// newDisk makes a disk whose first line is its id, in the VMM's working directory.
func newDisk(t *testing.T, cfg *hypervisor.Config, id string) hypervisor.Disk {
	t.Helper()
	if err := os.MkdirAll(hypervisor.RunDir(cfg.Dir), 0o700); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, diskBytes)
	copy(body, id+"\n")
	writeFile(t, filepath.Join(hypervisor.RunDir(cfg.Dir), id), string(body), 0o600)
	return hypervisor.Disk{ID: id, Path: id}
}

// mustHold checks that the disk's first line on the host is text.
func mustHold(t *testing.T, cfg *hypervisor.Config, disk hypervisor.Disk, text string) {
	t.Helper()
	body, err := os.ReadFile(hypervisor.InRunDir(cfg.Dir, disk.Path))
	if err != nil || !bytes.HasPrefix(body, []byte(text+"\n")) {
		t.Errorf("disk %s holds %.20q, %v; want %q", disk.ID, body, err, text)
	}
}

// testColdDisk: two disks of the boot, one of them read-only.
func testColdDisk(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	disk, fixed := newDisk(t, cfg, "disk0"), newDisk(t, cfg, "disk1")
	fixed.ReadOnly = true
	cfg.Disks = []hypervisor.Disk{disk, fixed}
	m := s.boot(t, cfg)
	defer m.close()
	for _, d := range cfg.Disks {
		m.mustAnswer(d.ID, guestports.ReadDisk, d.ID)
	}
	m.mustAnswer("<nil>", guestports.WriteDisk, disk.ID, "changed")
	if answer := m.command(guestports.WriteDisk, fixed.ID, "changed"); answer == "<nil>" {
		t.Error("a read-only disk is written to")
	}
	mustHold(t, cfg, disk, "changed")
	mustHold(t, cfg, fixed, fixed.ID)
	h := m.control()
	defer h.Close()
	c, err := h.Counters(timeout(t, time.Minute))
	if err != nil {
		t.Fatalf("Counters: %v", err)
	}
	n := c.Disks[disk.ID]
	if n.WriteBytes < 512 || n.WriteOps < 1 || n.ReadBytes < 512 || n.ReadOps < 1 || c.Disks[fixed.ID].WriteBytes != 0 {
		t.Errorf("counters %+v", c.Disks)
	}
}

// testAddDisk: a disk is plugged into a running guest and out again.
func testAddDisk(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	disk := newDisk(t, cfg, "disk0")
	m := s.boot(t, cfg)
	defer m.close()
	h := m.control()
	defer h.Close()
	ctx := timeout(t, time.Minute)
	if err := h.AddDisk(ctx, hypervisor.Disk{ID: "a", Path: "none"}); err == nil {
		t.Error("a disk that is nowhere is taken")
	}
	if err := h.AddDisk(ctx, hypervisor.Disk{ID: "a,b", Path: "x"}); !errors.Is(err, hypervisor.ErrConfig) {
		t.Errorf("a disk called a,b: %v, want ErrConfig", err)
	}
	for _, text := range []string{"first", "second"} {
		if err := h.AddDisk(ctx, disk); err != nil {
			t.Fatalf("AddDisk: %v", err)
		}
		m.mustAnswer("<nil>", guestports.WriteDisk, disk.ID, text)
		m.mustAnswer(text, guestports.ReadDisk, disk.ID)
		if err := h.Remove(ctx, disk.ID); err != nil {
			t.Fatalf("Remove: %v", err)
		}
		m.mustAnswer("<nil>", guestports.AwaitNoDisk, disk.ID)
		mustHold(t, cfg, disk, text)
	}
}
