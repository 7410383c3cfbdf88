package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"runch/hypervisor"
	"runch/state"
	"runch/unixsocket"
)

// limit bounds what a test waits for.
const limit = 20 * time.Second

// release is when a guest releases a CPU.
type release int

const (
	never       release = iota
	awaited             // right after query-hotpluggable-cpus, so that the client gets the event
	unconnected         // while no client is connected, so that the event is lost
)

// cpuMachine is a fake QEMU with at most three CPUs, one of them from the boot.
type cpuMachine struct {
	t       *testing.T
	release release
	leaving leavingCPUs // shared by all handles, as in a VM

	mu    sync.Mutex
	here  [3]bool
	asked [3]bool // the guest was asked to release it
}

// connect gives a handle, as each request has its own.
func (m *cpuMachine) connect() *Handle {
	m.t.Helper()
	ours, theirs, err := unixsocket.Pair("monitor")
	if err != nil {
		m.t.Fatal(err)
	}
	peer, err := unixsocket.Open(theirs)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.release == unconnected {
		m.eject(io.Discard)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		m.serve(peer)
	}()
	m.t.Cleanup(func() {
		_ = ours.Close()
		<-served
	})
	return &Handle{monitor: newMonitor(ours), leaving: &m.leaving}
}

// serve answers commands until the client has gone.
func (m *cpuMachine) serve(conn *net.UnixConn) {
	defer conn.Close()
	for in := bufio.NewScanner(conn); in.Scan(); {
		var command struct {
			Execute   string `json:"execute"`
			Arguments struct {
				ID string `json:"id"`
			} `json:"arguments"`
			ID uint64 `json:"id"`
		}
		if err := json.Unmarshal(in.Bytes(), &command); err != nil {
			return
		}
		result := m.do(command.Execute, command.Arguments.ID)
		_ = json.NewEncoder(conn).Encode(map[string]any{"return": result, "id": command.ID})
		if m.release == awaited && command.Execute == "query-hotpluggable-cpus" {
			m.eject(conn)
		}
	}
}

func (m *cpuMachine) do(command, id string) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int
	_, _ = fmt.Sscanf(id, "cpu-%d", &n)
	switch command {
	case "query-hotpluggable-cpus":
		var slots []map[string]any
		for n, here := range m.here {
			slot := map[string]any{"type": "cpu", "props": map[string]int{"socket-id": n}}
			if here {
				slot["qom-path"] = fmt.Sprintf("/machine/peripheral/cpu-%d", n)
			}
			if n == 0 {
				slot["qom-path"] = "/machine/unattached/device[0]"
			}
			slots = append(slots, slot)
		}
		return slots
	case "device_add":
		m.here[n] = true
	case "device_del":
		m.asked[n] = true
	case "query-memory-size-summary":
		return map[string]any{"base-memory": 256 << 20}
	case "query-memory-devices":
		return []any{}
	default:
		m.t.Errorf("command %s", command)
	}
	return map[string]any{}
}

// eject releases the CPUs that the guest was asked to release, and writes the events.
func (m *cpuMachine) eject(events io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, asked := range m.asked {
		if asked {
			m.here[n], m.asked[n] = false, false
			data := map[string]any{"device": fmt.Sprintf("cpu-%d", n)}
			_ = json.NewEncoder(events).Encode(map[string]any{"event": "DEVICE_DELETED", "data": data})
		}
	}
}

func (m *cpuMachine) cpus() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, here := range m.here {
		if here {
			n++
		}
	}
	return n
}

func (m *cpuMachine) resize(h hypervisor.Resizer, n int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), limit)
	defer cancel()
	if err := h.Resize(ctx, state.VMSize{CPUs: n}); err != nil {
		m.t.Fatalf("Resize to %d CPUs: %v", n, err)
	}
}

// TestResizeAwaitsRelease: CPUs can be added right after others were removed, once the guest
// has released those.
func TestResizeAwaitsRelease(t *testing.T) {
	for name, release := range map[string]release{"awaited": awaited, "not heard": unconnected} {
		t.Run(name, func(t *testing.T) {
			m := &cpuMachine{t: t, release: release, here: [3]bool{true}}
			for _, n := range []int{3, 1, 3, 2, 3, 1, 3} {
				m.resize(m.connect(), n)
			}
			m.eject(io.Discard)
			if n := m.cpus(); n != 3 {
				t.Errorf("%d CPUs, want 3", n)
			}
		})
	}
	// On one connection the events of earlier removals come first.
	t.Run("one connection", func(t *testing.T) {
		m := &cpuMachine{t: t, release: awaited, here: [3]bool{true}}
		h := m.connect()
		for _, n := range []int{3, 1, 3, 2, 3, 1, 3} {
			m.resize(h, n)
		}
		m.eject(io.Discard)
		if n := m.cpus(); n != 3 {
			t.Errorf("%d CPUs, want 3", n)
		}
	})
}

// TestResizeGivesUp: if the guest never releases its CPUs, Resize to fewer does not wait,
// and Resize to more fails when the context ends.
func TestResizeGivesUp(t *testing.T) {
	m := &cpuMachine{t: t, release: never, here: [3]bool{true}}
	for _, n := range []int{3, 2, 1} {
		m.resize(m.connect(), n)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, cause)
	defer cancel()
	err := m.connect().Resize(ctx, state.VMSize{CPUs: 3})
	if !errors.Is(err, cause) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Resize: %v, want the context's cause", err)
	}
}

// TestResizeChecksMemoryFirst: a size whose memory cannot be had leaves the CPUs as they are.
func TestResizeChecksMemoryFirst(t *testing.T) {
	m := &cpuMachine{t: t, release: awaited, here: [3]bool{true}}
	var refused *hypervisor.RefusedError
	if err := m.connect().Resize(t.Context(), state.VMSize{CPUs: 3, MemoryMiB: 512}); !errors.As(err, &refused) {
		t.Errorf("Resize: %v, want a RefusedError", err)
	}
	if n := m.cpus(); n != 1 {
		t.Errorf("%d CPUs, want 1", n)
	}
}
