package vmmtest

import (
	"os"
	"testing"
	"time"

	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestports"
)

// savedDir makes a directory for a snapshot in the VMM's working directory.
func savedDir(t *testing.T, cfg *hypervisor.Config, name string) string {
	t.Helper()
	if err := os.MkdirAll(hypervisor.InRunDir(cfg.Dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// testSnapshot: a VM is saved and resumed, and then restored as a second VM with the state
// that was saved.
func testSnapshot(t *testing.T, s *suite) {
	nic := newNIC(t, "eth0", 1)
	defer closeNIC(nic)
	cfg := s.config(t, s.small)
	cfg.NICs = []hypervisor.NIC{nic}
	m := s.boot(t, cfg)
	defer m.close()
	m.mustAnswer("<nil>", guestports.Remember, "me")
	h := m.control()
	defer h.Close()
	ctx := timeout(t, 2*time.Minute)
	can, err := h.Capabilities(ctx)
	if err != nil {
		t.Fatalf("Capabilities: %v", err)
	}
	dir := savedDir(t, cfg, "saved")
	if err := h.Snapshot(ctx, dir); err == nil {
		t.Error("a VM that runs is saved")
	}
	if err := h.Pause(ctx); err != nil {
		t.Fatalf("Pause: %v", err)
	}
	err = h.Snapshot(ctx, dir)
	if !can.Snapshot {
		mustRefuse(t, "Snapshot", err)
		t.Skipf("%s %s cannot save this VM: %v", can.VMM, can.Version, err)
	}
	if err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	if err := h.Resume(ctx); err != nil {
		t.Fatalf("Resume: %v", err)
	}
	m.mustAnswer("me", guestports.Recall)
	m.mustAnswer("<nil>", guestports.Remember, "another")
	for _, name := range []string{"second", "third"} {
		mustSaveAndResume(t, h, savedDir(t, cfg, name))
		m.mustAnswer("another", guestports.Recall)
	}
	m.close()

	again := s.config(t, s.small)
	again.NICs = cfg.NICs
	again.Restore = hypervisor.InRunDir(cfg.Dir, dir)
	second := s.prepare(t, again)
	defer second.close()
	if err := second.Boot(ctx); err != nil {
		t.Fatalf("restore: %v", err)
	}
	second.mustAnswer("me", guestports.Recall)
	second.mustAnswer("<nil>", guestports.AwaitNIC)
	second.mustAnswer("", guestports.PowerOff)
	if err := second.wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// mustSaveAndResume checks that a VM can be resumed right after it was saved.
func mustSaveAndResume(t *testing.T, h hypervisor.Control, dir string) {
	t.Helper()
	ctx := timeout(t, time.Minute)
	if err := h.Pause(ctx); err != nil {
		t.Fatalf("Pause: %v", err)
	}
	if err := h.Snapshot(ctx, dir); err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	if err := h.Resume(ctx); err != nil {
		t.Fatalf("Resume: %v", err)
	}
}

// testSnapshotShare: a VM with a share is saved, and restored with another virtiofsd for the
// same files. A driver without SnapshotShare has to refuse that.
func testSnapshotShare(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	share, server := newShare(t, cfg, "files")
	cfg.Share = &share
	m := s.boot(t, cfg)
	defer m.close()
	m.mustAnswer("files", guestports.ReadShare, "files")
	h := m.control()
	defer h.Close()
	ctx := timeout(t, 2*time.Minute)
	can, err := h.Capabilities(ctx)
	if err != nil {
		t.Fatalf("Capabilities: %v", err)
	}
	if err := h.Pause(ctx); err != nil {
		t.Fatalf("Pause: %v", err)
	}
	err = h.Snapshot(ctx, savedDir(t, cfg, "saved"))
	if !can.SnapshotShare {
		mustRefuse(t, "Snapshot", err)
		m.close()
		mustEnd(t, server)
		t.Skipf("%s %s cannot save a VM with a share: %v", can.VMM, can.Version, err)
	}
	if err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	if err := h.Resume(ctx); err != nil {
		t.Errorf("Resume: %v", err)
	}
	m.mustAnswer("files", guestports.ReadFile, "files")
	m.close()
	mustEnd(t, server)

	again := s.config(t, s.small)
	fresh, freshServer := serve(t, again, server.dir, "files")
	again.Share = &fresh
	again.Restore = hypervisor.InRunDir(cfg.Dir, "saved")
	second := s.prepare(t, again)
	if err := second.Boot(ctx); err != nil {
		t.Fatalf("restore: %v; log:\n%s", err, second.log)
	}
	second.mustAnswer("files", guestports.ReadFile, "files")
	second.close()
	mustEnd(t, freshServer)
}
