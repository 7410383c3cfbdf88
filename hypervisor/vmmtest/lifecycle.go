package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestports"
)

// endTimeout is how long a VM may take to end once it has a reason to.
const endTimeout = 20 * time.Second

// testPowerOff: a guest that powers off ends the VM, and Wait returns nil.
func testPowerOff(t *testing.T, s *suite) { testGuestEnds(t, s, guestports.PowerOff) }

// testReset: a guest that resets ends the VM, and is not booted again.
func testReset(t *testing.T, s *suite) { testGuestEnds(t, s, guestports.Reset) }

// testPanic: a guest that panics ends the VM too, and the console has the kernel's message.
func testPanic(t *testing.T, s *suite) {
	m := testGuestEnds(t, s, guestports.Panic)
	if !strings.Contains(m.console.String(), "Kernel panic") {
		t.Errorf("the console does not have the panic:\n%s", m.console)
	}
}

func testGuestEnds(t *testing.T, s *suite, how string) *machine {
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	open := m.dial(guestports.Echo)
	defer open.Close()
	ended := make(chan struct{})
	for range 2 {
		go func() {
			_ = m.Wait()
			ended <- struct{}{}
		}()
	}
	if answer := m.command(how); answer != "" {
		t.Errorf("%s: the guest answers %q", how, answer)
	}
	if err := m.wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
	<-ended
	<-ended
	m.mustBeDead(open)
	return m
}

// mustBeDead checks that an ended VM leaves no process, and that no call blocks on it.
func (m *machine) mustBeDead(open net.Conn) {
	m.t.Helper()
	if pids := m.pids(); len(pids) > 0 {
		m.t.Errorf("processes %v are left", pids)
	}
	_ = open.SetDeadline(time.Now().Add(endTimeout))
	if _, err := open.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		m.t.Errorf("a connection to an ended VM: %v", err)
	}
	if conn, err := m.Dial(timeout(m.t, time.Second), guestports.Echo); err == nil {
		_ = conn.Close()
		m.t.Error("an ended VM can be dialled")
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := m.hello.Accept()
		accepted <- err
	}()
	select {
	case err := <-accepted:
		if err == nil {
			m.t.Error("an ended VM connects")
		}
	case <-time.After(endTimeout):
		_ = m.hello.Close()
		m.t.Errorf("Accept waits for an ended VM: %v", <-accepted)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// testClose: Close ends a VM that runs, its connections and its listeners.
func testClose(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	open := m.dial(guestports.Echo)
	defer open.Close()
	for range 2 {
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := m.wait(); !errors.Is(err, hypervisor.ErrKilled) {
		t.Errorf("Wait after Close: %v, want ErrKilled", err)
	}
	m.mustBeDead(open)
}

// testKilledFromOutside: if another process kills the VMM, Wait returns and the connections end.
func testKilledFromOutside(t *testing.T, s *suite) {
	m := s.boot(t, s.config(t, s.small))
	defer m.close()
	open := m.dial(guestports.Echo)
	defer open.Close()
	for _, pid := range m.pids() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	err := m.wait()
	var exit *hypervisor.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("Wait: %v, want an ExitError that names the signal", err)
	}
	m.mustBeDead(open)
}

// testConsole: the driver reads the console as long as the VM runs, even if the writer fails.
func testConsole(t *testing.T, s *suite) {
	// More than the pipes and sockets between guest and driver can hold.
	const bytes = 256 << 10
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprintf("refuse=%v", refuse), func(t *testing.T) {
			cfg := s.config(t, s.small)
			if refuse {
				cfg.Console = refusing{}
			}
			m := s.boot(t, cfg)
			defer m.close()
			// On a slow console the guest writes less and stops after a while. It must not
			// block.
			wrote, err := strconv.Atoi(m.command(guestports.Console, fmt.Sprint(bytes)))
			if err != nil {
				t.Errorf("write to the console: %v", err)
			}
			if wrote < bytes {
				t.Logf("the console is so slow here that only %d of %d bytes were written", wrote, bytes)
			}
			if answer := m.command(guestports.PowerOff); answer != "" {
				t.Errorf("power off: %q", answer)
			}
			if err := m.wait(); err != nil {
				t.Errorf("Wait: %v", err)
			}
			if !refuse && m.console.total() < wrote {
				t.Errorf("%d bytes of console, want at least %d", m.console.total(), wrote)
			}
		})
	}
}

// refusing is a writer on a full disk.
type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// testHostileChannel: a guest that breaks the channel's protocol loses only its
// connections, and the VM can still be closed.
func testHostileChannel(t *testing.T, s *suite) {
	for _, how := range []string{guestports.Garbage, guestports.Streams} {
		t.Run(how, func(t *testing.T) {
			m := s.boot(t, s.config(t, s.small))
			defer m.close()
			open := m.dial(guestports.Echo)
			defer open.Close()
			if m.command(how) == guestports.NoChannel {
				t.Skip("the guest has a vsock, whose protocol is not ours")
			}
			_ = open.SetDeadline(time.Now().Add(endTimeout))
			if _, err := io.Copy(io.Discard, open); isTimeout(err) {
				t.Error("the connection goes on")
			}
		})
	}
}

// testOrder: calls that come too early or too late are refused.
func testOrder(t *testing.T, s *suite) {
	m := s.prepare(t, s.config(t, s.small))
	defer m.close()
	if _, err := m.Listen(agentproto.HelloPort); !errors.Is(err, hypervisor.ErrInUse) {
		t.Errorf("a second Listen: %v, want ErrInUse", err)
	}
	if err := m.Boot(timeout(t, bootTimeout)); err != nil {
		t.Fatal(err)
	}
	if err := m.Boot(timeout(t, bootTimeout)); !errors.Is(err, hypervisor.ErrState) {
		t.Errorf("a second Boot: %v, want ErrState", err)
	}
	if _, err := m.Listen(99); !errors.Is(err, hypervisor.ErrState) {
		t.Errorf("Listen after Boot: %v, want ErrState", err)
	}
	m.awaitHello()
	if err := echo(m.dial(guestports.Echo), 1000); err != nil {
		t.Error(err)
	}
	m.close()
	if err := m.Boot(timeout(t, bootTimeout)); !errors.Is(err, hypervisor.ErrClosed) {
		t.Errorf("Boot after Close: %v, want ErrClosed", err)
	}
	never := s.prepare(t, s.config(t, s.small))
	go never.close()
	if err := never.wait(); !errors.Is(err, hypervisor.ErrClosed) {
		t.Errorf("Wait of a VM closed before Boot: %v, want ErrClosed", err)
	}
	never.close()
}

// testBootContext: Boot ends with its context and leaves nothing.
func testBootContext(t *testing.T, s *suite) {
	m := s.prepare(t, s.config(t, s.small))
	defer m.close()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if err := m.Boot(ctx); !errors.Is(err, cause) {
		t.Errorf("Boot: %v, want the context's cause", err)
	}
	if pids := m.pids(); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
}
