package vmmtest

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestports"
)

// newTap makes a tap that exists until its file is closed. It skips the test if this user
// may not make one.
func newTap(t *testing.T) *os.File {
	t.Helper()
	// O_NONBLOCK: a VMM reads until the tap has no more frames.
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no taps here: %v", err)
	}
	request, err := unix.NewIfreq("vmmtest%d")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(fd)
		t.Skipf("no taps here: %v", err)
	}
	return os.NewFile(uintptr(fd), request.Name())
}

func newNIC(t *testing.T, id string, last byte) hypervisor.NIC {
	t.Helper()
	return hypervisor.NIC{ID: id, MAC: net.HardwareAddr{2, 0, 0, 0, 0, last}, MTU: 1400, Tap: []*os.File{newTap(t)}}
}

func closeNIC(nic hypervisor.NIC) {
	for _, f := range nic.Tap {
		_ = f.Close()
	}
}

// testColdNIC: an interface of the boot, which can be unplugged.
func testColdNIC(t *testing.T, s *suite) {
	nic := newNIC(t, "eth0", 1)
	defer closeNIC(nic)
	cfg := s.config(t, s.small)
	cfg.NICs = []hypervisor.NIC{nic}
	m := s.boot(t, cfg)
	defer m.close()
	if answer := m.command(guestports.AwaitNIC); answer != "<nil>" {
		t.Errorf("the guest sees no interface: %s", answer)
	}
	h := m.control()
	defer h.Close()
	if err := h.Remove(timeout(t, time.Minute), nic.ID); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	m.mustAnswer("<nil>", guestports.AwaitNoNIC)
}

// testAddNIC: an interface is plugged into a running guest and unplugged again.
func testAddNIC(t *testing.T, s *suite) {
	first, second := newNIC(t, "eth0", 1), newNIC(t, "eth1", 2)
	defer closeNIC(first)
	defer closeNIC(second)
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	for range 2 { // one client after the other
		if err := m.control().Close(); err != nil {
			t.Errorf("close the handle: %v", err)
		}
	}
	h := m.control()
	defer h.Close()
	ctx := timeout(t, time.Minute)
	broken := first
	broken.Tap = []*os.File{os.Stdin}
	if err := h.AddNIC(ctx, broken); err == nil {
		t.Error("an interface with a tap that is none is taken")
	}
	if err := h.AddNIC(ctx, hypervisor.NIC{ID: "a,b"}); !errors.Is(err, hypervisor.ErrConfig) {
		t.Errorf("an interface called a,b: %v, want ErrConfig", err)
	}
	for range 2 {
		if err := h.AddNIC(ctx, first); err != nil {
			t.Fatalf("AddNIC: %v", err)
		}
		m.mustAnswer("<nil>", guestports.AwaitNIC)
		if err := h.AddNIC(ctx, second); err == nil {
			if err := h.Remove(ctx, second.ID); err != nil {
				t.Errorf("Remove: %v", err)
			}
		} else if !errors.Is(err, hypervisor.ErrNoSlot) {
			t.Errorf("a second interface in one slot: %v, want it taken or ErrNoSlot", err)
		}
		if err := h.Remove(ctx, first.ID); err != nil {
			t.Fatalf("Remove: %v", err)
		}
		m.mustAnswer("<nil>", guestports.AwaitNoNIC)
	}
	if err := h.Remove(ctx, first.ID); err == nil {
		t.Error("an interface that is gone is removed once more")
	}
}
