package cloudhypervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"runch/hypervisor"
	"runch/transport"
)

// limit bounds what a test waits for.
const limit = 20 * time.Second

// rig is a VM with the fake for its VMM.
type rig struct {
	*VM
	t       *testing.T
	log     string
	console *syncBuffer
	hello   net.Listener
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func testConfig(t *testing.T, o fakeOptions) *hypervisor.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "ch")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o.Log = filepath.Join(dir, "requests")
	if o.Version == "" {
		o.Version = "v53.0.0"
	}
	encoded, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A script sets the variable, because the driver does not pass on its environment.
	program := filepath.Join(dir, "fake")
	script := fmt.Sprintf("#!/bin/sh\nexport %s='%s'\nexec %s \"$@\"\n", fakeVariable, encoded, self)
	write(t, program, script, 0o700)
	cfg := &hypervisor.Config{
		Name: t.Name(), Accel: hypervisor.AccelKVM, Binary: program, Kernel: filepath.Join(dir, "kernel"), Initramfs: filepath.Join(dir, "initramfs"),
		Cmdline: []string{"a=b"}, CPUs: 1, MaxCPUs: 4, MemoryMiB: 256, MaxMemoryMiB: 512, SerialPort: "agent",
		Announce: func(guest transport.Guest) []string {
			return []string{fmt.Sprintf("transport=%v,%d", guest.Serial, guest.HostPort(1026))}
		},
		// A socket's address has room for 107 characters.
		Dir: filepath.Join(dir, strings.Repeat("a", 150), strings.Repeat("b", 150)),
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, cfg.Kernel, "a kernel", 0o600)
	write(t, cfg.Initramfs, "an initramfs", 0o600)
	return cfg
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func newRig(t *testing.T, cfg *hypervisor.Config) *rig {
	t.Helper()
	r := &rig{t: t, console: &syncBuffer{}, log: filepath.Join(filepath.Dir(cfg.Kernel), "requests")}
	cfg.Console = r.console
	vm, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	own, ok := vm.(*VM)
	if !ok {
		t.Fatalf("New gives a %T", vm)
	}
	r.VM = own
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if r.hello, err = vm.Listen(1026); err != nil {
		t.Fatalf("Listen: %v", err)
	}
	return r
}

// requests returns the fake's requests. The test fails if one differs from the documentation.
func (r *rig) requests() []fakeRequest {
	r.t.Helper()
	data, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	var all []fakeRequest
	for in := json.NewDecoder(bytes.NewReader(data)); ; {
		var one fakeRequest
		if err := in.Decode(&one); err != nil {
			break
		}
		if one.Problem != "" {
			r.t.Errorf("%s: %s", one.Endpoint, one.Problem)
		}
		all = append(all, one)
	}
	return all
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func booted(t *testing.T, o fakeOptions) (*rig, hypervisor.Control) {
	t.Helper()
	cfg := testConfig(t, o)
	r := newRig(t, cfg)
	if err := r.Boot(bounded(t)); err != nil {
		t.Fatalf("Boot: %v", err)
	}
	h, err := r.Control(bounded(t))
	if err != nil {
		t.Fatalf("Control: %v", err)
	}
	return r, h
}

func (r *rig) ended() error {
	r.t.Helper()
	done := make(chan error, 1)
	go func() { done <- r.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		r.t.Fatal("the VMM has not ended")
		return nil
	}
}

// echo checks that the fake's guest answers by the vsock.
func (r *rig) echo() {
	r.t.Helper()
	conn, err := r.Dial(bounded(r.t), 7)
	if err != nil {
		r.t.Fatalf("Dial: %v", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	buf := make([]byte, 4)
	if _, err := io.WriteString(conn, "ping"); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "ping" {
		r.t.Errorf("echo %q, %v", buf, err)
	}
}

// golden compares a body with a file of testdata.
func golden(t *testing.T, name string, body []byte) {
	t.Helper()
	var got, want any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}
