package vmmtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/hypervisor/vmmtest/guestports"
)

// machine is a VM of a test.
type machine struct {
	hypervisor.VM
	t       *testing.T
	cfg     *hypervisor.Config
	hello   net.Listener
	console *boundedBuffer
	log     *boundedBuffer
}

// config returns a configuration with an image. The test may change the configuration.
func (s *suite) config(t *testing.T, image *Image) *hypervisor.Config {
	t.Helper()
	return &hypervisor.Config{
		Name: strings.ReplaceAll(t.Name(), "/", "-"), Binary: s.driver.Program, Accel: s.driver.Accel,
		Kernel: image.Kernel, Initramfs: image.Initramfs, MemoryMiB: 256, HotplugSlots: 1,
		Announce: agentproto.KernelParams, SerialPort: agentproto.SerialPort,
		Dir: longTempDir(t), Console: &boundedBuffer{}, Log: &boundedBuffer{},
	}
}

// longTempDir makes a directory with a path of more than 300 characters. A socket's address
// has room for 107, so drivers need another way to name a socket in it.
func longTempDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("a", 150), strings.Repeat("b", 150))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// prepare makes a VM that listens for the hello. The test closes it.
func (s *suite) prepare(t *testing.T, cfg *hypervisor.Config) *machine {
	t.Helper()
	vm, err := s.driver.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	m := &machine{VM: vm, t: t, cfg: cfg}
	m.console, _ = cfg.Console.(*boundedBuffer)
	m.log, _ = cfg.Log.(*boundedBuffer)
	if m.hello, err = vm.Listen(agentproto.HelloPort); err != nil {
		_ = vm.Close()
		t.Fatalf("Listen: %v", err)
	}
	return m
}

// boot boots a VM and waits for its hello. The test closes it.
func (s *suite) boot(t *testing.T, cfg *hypervisor.Config) *machine {
	t.Helper()
	m := s.prepare(t, cfg)
	begin := time.Now()
	if err := m.Boot(timeout(t, bootTimeout)); err != nil {
		m.close()
		t.Fatalf("Boot: %v", err)
	}
	booted := time.Since(begin)
	m.awaitHello()
	t.Logf("booted after %v, hello after %v", booted.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	return m
}

func (m *machine) awaitHello() {
	m.t.Helper()
	timer := time.AfterFunc(bootTimeout, func() { _ = m.hello.Close() })
	defer timer.Stop()
	conn, err := m.hello.Accept()
	if err != nil {
		m.close()
		m.t.Fatalf("no hello: %v; console:\n%s\nlog:\n%s", err, m.console, m.log)
	}
	defer conn.Close()
	if _, err := agentproto.ReadHello(conn); err != nil {
		m.close()
		m.t.Fatalf("hello: %v", err)
	}
}

// close closes the VM. An error fails the test.
func (m *machine) close() {
	m.t.Helper()
	if err := m.Close(); err != nil {
		m.t.Errorf("Close: %v", err)
	}
	_ = m.hello.Close()
}

// dial connects to a port of the guest.
func (m *machine) dial(port uint32) net.Conn {
	m.t.Helper()
	conn, err := m.Dial(timeout(m.t, time.Minute), port)
	if err != nil {
		m.t.Fatalf("Dial %d: %v", port, err)
	}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return conn
}

// control gives control over the VM.
func (m *machine) control() hypervisor.Control {
	m.t.Helper()
	h, err := m.Control(timeout(m.t, time.Minute))
	if err != nil {
		m.t.Fatalf("Control: %v", err)
	}
	return h
}

// mustAnswer gives the guest a command, and checks that its answer is want.
func (m *machine) mustAnswer(want string, words ...string) {
	m.t.Helper()
	if answer := m.command(words...); answer != want {
		m.t.Errorf("%s: the guest answers %q, want %q", strings.Join(words, " "), answer, want)
	}
}

// command gives the small guest a command and returns the answer. It is empty if the guest
// ended instead.
func (m *machine) command(words ...string) string {
	m.t.Helper()
	conn := m.dial(guestports.Command)
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, strings.Join(words, " ")); err != nil {
		return ""
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimSpace(line)
}

// wait returns what Wait returns, and fails the test if that takes longer than endTimeout.
func (m *machine) wait() error {
	m.t.Helper()
	done := make(chan error, 1)
	go func() { done <- m.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(endTimeout):
		m.t.Errorf("the VM has not ended within %v", endTimeout)
		_ = m.Close()
		return <-done
	}
}

// pids returns the processes whose command line has the names of the VM and of the VMM.
func (m *machine) pids() []int {
	m.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		m.t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte(m.cfg.Name)) && bytes.Contains(text, []byte(filepath.Base(m.cfg.Binary))) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// timeout returns a context that ends after d, or when the test does.
func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// boundedBuffer keeps the first bytes and counts all.
type boundedBuffer struct {
	mu   sync.Mutex
	kept bytes.Buffer
	all  int
}

const keptBytes = 64 << 10

// Write keeps what there is room for.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all += len(p)
	b.kept.Write(p[:min(len(p), keptBytes-b.kept.Len())])
	return len(p), nil
}

// String gives what was kept.
func (b *boundedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept.String()
}

func (b *boundedBuffer) total() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all
}
