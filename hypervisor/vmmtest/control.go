package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestports"
	"runch/state"
)

// testResizeCPUs: CPUs come and go again.
func testResizeCPUs(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	cfg.CPUs, cfg.MaxCPUs = 1, 3
	m := s.boot(t, cfg)
	defer m.close()
	h := m.control()
	defer h.Close()
	ctx := timeout(t, 2*time.Minute)
	if err := h.Resize(ctx, state.VMSize{CPUs: 4}); err == nil {
		t.Error("a resize to more CPUs than there can be is taken")
	}
	if possible := m.command(guestports.PossibleCPUs); possible == "0" {
		t.Skip("the guest's kernel takes no more CPUs than it booted with: it does not believe this machine's ACPI tables")
	}
	for range 2 {
		for _, n := range []int{3, 1} {
			if err := h.Resize(ctx, state.VMSize{CPUs: n}); err != nil {
				t.Fatalf("Resize to %d CPUs: %v; log:\n%s", n, err, m.log)
			}
			m.mustAnswer("<nil>", guestports.CPUs, fmt.Sprint(n))
		}
	}
	// Without a wait in the test for the guest to release its CPUs.
	for _, n := range []int{3, 1, 3} {
		if err := h.Resize(ctx, state.VMSize{CPUs: n}); err != nil {
			t.Fatalf("Resize to %d CPUs right after another: %v; log:\n%s", n, err, m.log)
		}
	}
	m.mustAnswer("<nil>", guestports.CPUs, "3")
}

// testResizeMemory: memory comes and goes again.
func testResizeMemory(t *testing.T, s *suite) {
	cfg := s.config(t, s.small)
	cfg.MaxMemoryMiB = cfg.MemoryMiB + 2*hypervisor.HotplugStepMiB
	m := s.boot(t, cfg)
	defer m.close()
	h := m.control()
	defer h.Close()
	ctx := timeout(t, 2*time.Minute)
	for _, mib := range []int{cfg.MaxMemoryMiB + 1, cfg.MemoryMiB - 1} {
		if err := h.Resize(ctx, state.VMSize{MemoryMiB: mib}); err == nil {
			t.Errorf("a resize to %d MiB is taken", mib)
		}
	}
	// The command loads the guest's virtio_mem, which is needed before memory can be added.
	m.mustAnswer("<nil>", guestports.LessMemory, fmt.Sprint(cfg.MemoryMiB))
	for range 2 {
		if err := h.Resize(ctx, state.VMSize{MemoryMiB: cfg.MaxMemoryMiB}); err != nil {
			t.Fatalf("Resize to more memory: %v", err)
		}
		m.mustAnswer("<nil>", guestports.MoreMemory, fmt.Sprint(cfg.MemoryMiB+hypervisor.HotplugStepMiB))
		if err := h.Resize(ctx, state.VMSize{MemoryMiB: cfg.MemoryMiB}); err != nil {
			t.Fatalf("Resize to less memory: %v", err)
		}
		m.mustAnswer("<nil>", guestports.LessMemory, fmt.Sprint(cfg.MemoryMiB+hypervisor.HotplugStepMiB))
	}
}

// testPause: a paused guest does nothing, and answers after it was resumed.
func testPause(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	h := m.control()
	defer h.Close()
	ctx := timeout(t, time.Minute)
	conn := m.dial(guestports.Command)
	defer conn.Close()
	for range 2 {
		if err := h.Pause(ctx); err != nil {
			t.Fatalf("Pause: %v", err)
		}
		if _, err := fmt.Fprintln(conn, guestports.Recall); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 100)); !isTimeout(err) {
			t.Errorf("a paused guest answers with %d bytes, %v", n, err)
		}
		if err := h.Resume(ctx); err != nil {
			t.Fatalf("Resume: %v", err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 100)); err != nil {
			t.Errorf("a resumed guest: %v", err)
		}
	}
}

// testStop: after Stop the VMM ends, and Wait returns nil.
func testStop(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	open := m.dial(guestports.Echo)
	defer open.Close()
	h := m.control()
	if err := h.Stop(timeout(t, time.Minute)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	_ = h.Close()
	if err := m.wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
	m.mustBeDead(open)
}

func mustRefuse(t *testing.T, what string, err error) {
	t.Helper()
	var refused *hypervisor.RefusedError
	if !errors.As(err, &refused) || len(refused.Reasons) == 0 {
		t.Errorf("%s: %v, want a RefusedError with reasons", what, err)
	}
}

// testRefusals: a request that the VMM refuses fails with a RefusedError and its reasons.
func testRefusals(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	h := m.control()
	defer h.Close()
	ctx := timeout(t, time.Minute)
	mustRefuse(t, "Remove of what is not there", h.Remove(ctx, "nothing"))
	mustRefuse(t, "more CPUs than there can be", h.Resize(ctx, state.VMSize{CPUs: 200}))
	mustRefuse(t, "more memory than there can be", h.Resize(ctx, state.VMSize{MemoryMiB: 1 << 20}))
	cause := errors.New("enough")
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if err := h.Pause(ended); !errors.Is(err, cause) {
		t.Errorf("Pause in a context that has ended: %v, want its cause", err)
	}
	if err := echo(m.dial(guestports.Echo), 1000); err != nil {
		t.Error(err)
	}
}

// testGone: every request to a VM that has ended fails in time.
func testGone(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	h := m.control()
	if c, err := h.Capabilities(timeout(t, time.Minute)); err != nil || c.Version == "" {
		t.Errorf("Capabilities %+v, %v", c, err)
	}
	m.close()
	ctx := timeout(t, time.Minute)
	for name, call := range map[string]func() error{
		"Pause":    func() error { return h.Pause(ctx) },
		"Remove":   func() error { return h.Remove(ctx, "eth0") },
		"Counters": func() error { _, err := h.Counters(ctx); return err },
	} {
		if err := call(); err == nil || ctx.Err() != nil {
			t.Errorf("%s of a VM that has ended: %v", name, err)
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if gone, err := m.Control(ctx); err == nil {
		_ = gone.Close()
		t.Error("Control of a VM that has ended: no error")
	}
}

// testUnprivileged: the VMM runs as a user who can read neither the guest image
// nor the sandbox's directory, and the guest has all its devices.
func testUnprivileged(t *testing.T, s *suite) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a VMM as somebody else")
	}
	nic := newNIC(t, "eth0", 1)
	defer closeNIC(nic)
	image := &Image{Kernel: secretCopy(t, s.small.Kernel), Initramfs: secretCopy(t, s.small.Initramfs)}
	cfg := s.config(t, image)
	// A VMM's user has no access to the directories above Config.Dir.
	outer := cfg.Dir
	cfg.Dir = filepath.Join(outer, "d")
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	cfg.User = &syscall.Credential{Uid: nobody, Gid: nobody}
	cfg.NICs = []hypervisor.NIC{nic}
	share, server := newShare(t, cfg, "files")
	cfg.Share = &share
	m := s.boot(t, cfg)
	defer m.close()
	for _, pid := range m.pids() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", nobody)) {
			t.Errorf("the VMM does not run as %d: %s, %v", nobody, status, err)
		}
	}
	m.mustAnswer("files", guestports.ReadShare, "files")
	m.mustAnswer("<nil>", guestports.AwaitNIC)
	h := m.control()
	defer h.Close()
	second, secondServer := newShare(t, cfg, "more")
	if err := h.AddShare(timeout(t, time.Minute), second); err != nil {
		t.Fatalf("AddShare: %v", err)
	}
	m.mustAnswer("more", guestports.ReadShare, "more")
	m.close()
	mustEnd(t, server)
	mustEnd(t, secondServer)
}

// secretCopy makes a copy of a file that only root can read.
func secretCopy(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), filepath.Base(path))
	writeFile(t, secret, string(body), 0o600)
	return secret
}
