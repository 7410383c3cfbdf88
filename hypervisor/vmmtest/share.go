package vmmtest

import (
	"path/filepath"
	"testing"
	"time"

	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestports"
	"runch/storage"
)

// newShare starts a virtiofsd that serves a directory with a file that contains the tag. The
// virtiofsd ends when the VMM disconnects.
func newShare(t *testing.T, cfg *hypervisor.Config, tag string) (hypervisor.Share, *server) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, guestports.FileName), tag+"\n", 0o644)
	return serve(t, cfg, dir, tag)
}

// server is a virtiofsd and the directory that it serves.
type server struct {
	*storage.Server
	dir string
}

func serve(t *testing.T, cfg *hypervisor.Config, dir, tag string) (hypervisor.Share, *server) {
	t.Helper()
	virtiofsd, err := storage.FindVirtiofsd("")
	if err != nil {
		t.Skipf("no share is tested: %v", err)
	}
	share := hypervisor.Share{Tag: tag, Socket: filepath.Join(cfg.Dir, tag)}
	process, err := virtiofsd.Serve(dir, share.Socket, cfg.Log)
	if err != nil {
		t.Fatalf("serve a directory: %v", err)
	}
	t.Cleanup(process.Kill)
	return share, &server{Server: process, dir: dir}
}

// mustEnd checks that virtiofsd ends after the VMM has disconnected.
func mustEnd(t *testing.T, server *server) {
	t.Helper()
	select {
	case <-server.Done():
	case <-time.After(endTimeout):
		t.Error("virtiofsd has not ended")
	}
}

// testColdShare: a share of the boot.
func testColdShare(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	share, server := newShare(t, cfg, "files")
	cfg.Share = &share
	m := s.boot(t, cfg)
	m.mustAnswer("files", guestports.ReadShare, "files")
	m.close()
	mustEnd(t, server)
}

// testAddShare: a directory is plugged into a running guest and out again.
func testAddShare(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	m := s.boot(t, cfg)
	defer m.close()
	h := m.control()
	defer h.Close()
	ctx := timeout(t, time.Minute)
	if err := h.AddShare(ctx, hypervisor.Share{Tag: "a", Socket: filepath.Join(cfg.Dir, "none")}); err == nil {
		t.Error("a share that nobody serves is taken")
	}
	for range 2 {
		share, server := newShare(t, cfg, "files")
		if err := h.AddShare(ctx, share); err != nil {
			t.Fatalf("AddShare: %v", err)
		}
		m.mustAnswer("files", guestports.ReadShare, "files")
		m.mustAnswer("<nil>", guestports.DropShare, "files")
		if err := h.Remove(ctx, share.Tag); err != nil {
			t.Fatalf("Remove: %v", err)
		}
		mustEnd(t, server)
		removeFile(t, share.Socket)
	}
}
