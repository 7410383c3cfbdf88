package shim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"runch/agentproto"
	"runch/namespace"
	"runch/shimproto"

	"golang.org/x/sys/unix"
)

// fakeAgent is the guest's side: it has the streams by id, and the test answers its calls.
type fakeAgent struct {
	agentproto.AgentService
	mu       sync.Mutex
	streams  map[uint64]net.Conn
	wait     chan *agentproto.WaitResponse
	signals  chan uint32
	stdinEnd chan uint64
	sizes    chan *agentproto.TerminalSize
}

func newFakeAgent() *fakeAgent {
	return &fakeAgent{
		streams: make(map[uint64]net.Conn), wait: make(chan *agentproto.WaitResponse, 1),
		signals: make(chan uint32, 8), stdinEnd: make(chan uint64, 1), sizes: make(chan *agentproto.TerminalSize, 8),
	}
}

// Dial gives one end of a socket pair and keeps the other by the id that the
// stream's header names.
func (f *fakeAgent) Dial(_ context.Context, _ uint32) (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ends := make([]net.Conn, 2)
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "stream")
		if ends[i], err = net.FileConn(file); err != nil {
			return nil, err
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
	go func() {
		id, err := agentproto.ReadStreamHeader(ends[1])
		if err != nil {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.streams[id] = ends[1]
	}()
	return ends[0], nil
}

func (f *fakeAgent) stream(t *testing.T, id uint64) net.Conn {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		f.mu.Lock()
		conn := f.streams[id]
		f.mu.Unlock()
		if conn != nil {
			return conn
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("stream %d never came", id)
		}
	}
}

func (f *fakeAgent) Wait(ctx context.Context, _ *agentproto.WaitRequest) (*agentproto.WaitResponse, error) {
	select {
	case r := <-f.wait:
		if r == nil {
			return nil, errors.New("the guest is gone")
		}
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fakeAgent) Signal(_ context.Context, r *agentproto.SignalRequest) (*agentproto.SignalResponse, error) {
	f.signals <- r.GetSignal()
	return &agentproto.SignalResponse{}, nil
}

func (f *fakeAgent) CloseStdin(_ context.Context, r *agentproto.CloseStdinRequest) (*agentproto.CloseStdinResponse, error) {
	f.stdinEnd <- r.GetBytes()
	return &agentproto.CloseStdinResponse{}, nil
}

func (f *fakeAgent) Resize(_ context.Context, r *agentproto.ResizeRequest) (*agentproto.ResizeResponse, error) {
	f.sizes <- r.GetSize()
	return &agentproto.ResizeResponse{}, nil
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.Close()
		_ = w.Close()
	})
	return r, w
}

// end is what Run gives.
type end struct {
	code int
	err  error
}

func start(t *testing.T, agent *fakeAgent, files Files, signals <-chan os.Signal) (*Task, <-chan end) {
	t.Helper()
	streams, err := OpenStreams(t.Context(), agent, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(streams.Close)
	p := &Task{Container: "c", Agent: agent, Streams: streams}
	ended := make(chan end, 1)
	go func() {
		code, err := p.Run(t.Context(), signals)
		ended <- end{code, err}
	}()
	return p, ended
}

func TestOutputIsCompleteBeforeTheEnd(t *testing.T) {
	agent := newFakeAgent()
	outR, outW := pipe(t)
	p, ended := start(t, agent, Files{Stdout: outW}, nil)
	const size = 10 << 20
	go func() {
		// The process's end is reported first, while the bytes are still on their way.
		agent.wait <- &agentproto.WaitResponse{ExitCode: 3, StdoutBytes: size}
		conn := agent.stream(t, p.Streams.IDs().GetStdout())
		_, _ = io.Copy(conn, bytes.NewReader(make([]byte, size)))
		_ = conn.Close()
	}()
	got, err := io.Copy(io.Discard, outR)
	if err != nil || got != size {
		t.Errorf("%d of %d bytes came, %v", got, size, err)
	}
	if e := <-ended; e.code != 3 || e.err != nil {
		t.Errorf("exit code %d, %v", e.code, e.err)
	}
}

func TestLostOutputIsNotASuccess(t *testing.T) {
	agent := newFakeAgent()
	_, outW := pipe(t)
	p, ended := start(t, agent, Files{Stdout: outW}, nil)
	_ = agent.stream(t, p.Streams.IDs().GetStdout()).Close()
	agent.wait <- &agentproto.WaitResponse{StdoutBytes: 5}
	if e := <-ended; e.code != shimproto.ExitLost || e.err == nil || !strings.Contains(e.err.Error(), "pass the process's output on: ") {
		t.Errorf("exit code %d with 5 bytes lost, %v", e.code, e.err)
	}
}

// The end of a process that was killed is reported even if nobody reads its output.
func TestAKilledProcessDoesNotWaitForItsReader(t *testing.T) {
	agent := newFakeAgent()
	outR, outW := pipe(t)
	p, ended := start(t, agent, Files{Stdout: outW}, nil)
	conn := agent.stream(t, p.Streams.IDs().GetStdout())
	_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	n, err := conn.Write(make([]byte, 10<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("somebody takes %d bytes: %v", n, err)
	}
	agent.wait <- &agentproto.WaitResponse{ExitCode: 137, StdoutBytes: uint64(n)}
	select {
	case e := <-ended:
		if e.code != 137 || e.err != nil {
			t.Errorf("exit code %d, %v", e.code, e.err)
		}
	case <-time.After(time.Minute):
		t.Error("the end waits for a reader")
	}
	_ = outR.Close() // which ends the write
}

// await waits for output that is on its way, also of a process that was killed.
func TestAKilledProcesssOutputMayComeLate(t *testing.T) {
	read, write := pipe(t)
	guest, host := net.Pipe()
	o := &output{file: write, conn: host, done: make(chan struct{})}
	go o.run()
	const stall = 20 * time.Millisecond
	go func() {
		<-time.After(10 * stall)
		_, _ = guest.Write([]byte("late"))
		_ = guest.Close()
	}()
	o.await(time.Minute, stall)
	_ = write.Close()
	if got, err := io.ReadAll(read); string(got) != "late" || err != nil {
		t.Errorf("%q came, %v", got, err)
	}
}

// A process whose output has no room gets a write error, and ends as it chooses.
func TestAFullDiskIsTheProcesssOwnMatter(t *testing.T) {
	agent := newFakeAgent()
	full := onAFullDisk(t)
	p, ended := start(t, agent, Files{Stdout: full}, nil)
	conn := agent.stream(t, p.Streams.IDs().GetStdout())
	if _, err := conn.Write([]byte("bytes")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream goes on: %v", err)
	}
	agent.wait <- &agentproto.WaitResponse{ExitCode: 1, StdoutBytes: 5}
	if e := <-ended; e.code != 1 || e.err != nil {
		t.Errorf("exit code %d, %v", e.code, e.err)
	}
}

// onAFullDisk makes a file that has no room for a byte.
func onAFullDisk(t *testing.T) (f *os.File) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a file system of its own needs root")
	}
	dir := t.TempDir()
	var err error
	namespace.Do(func() bool {
		if err = unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return true
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return false
		}
		if err = unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
			return false
		}
		if err = os.WriteFile(filepath.Join(dir, "all"), make([]byte, 4<<10), 0o600); err == nil {
			f, err = os.Create(filepath.Join(dir, "out"))
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestSlowReaderLosesNothing has a reader that begins long after the timeout for
// output that does not come: output that waits for its reader is not lost.
func TestSlowReaderLosesNothing(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	guest, host := net.Pipe()
	o := &output{file: write, conn: host, done: make(chan struct{})}
	go o.run()
	data := bytes.Repeat([]byte("output "), 64<<10) // more than a pipe holds
	go func() {
		_, _ = guest.Write(data)
		_ = guest.Close()
	}()
	eventuallyFull(t, write)
	const timeout = 100 * time.Millisecond
	awaited := make(chan struct{})
	go func() {
		o.await(timeout, 0)
		close(awaited)
	}()
	select {
	case <-awaited:
		t.Fatal("the wait ended while the reader had not read")
	case <-time.After(4 * timeout):
	}
	got, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	<-awaited
	if !bytes.Equal(got, data) {
		t.Errorf("got %d of %d bytes", len(got), len(data))
	}
}

// eventuallyFull returns when a pipe takes no more.
func eventuallyFull(t *testing.T, pipe *os.File) {
	t.Helper()
	conn, err := pipe.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for room := 1; room > 0; <-again.C {
		err := conn.Control(func(fd uintptr) {
			room, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReaderGoneDoesNotHoldTheEndUp(t *testing.T) {
	agent := newFakeAgent()
	outR, outW := pipe(t)
	p, ended := start(t, agent, Files{Stdout: outW}, nil)
	_ = outR.Close()
	conn := agent.stream(t, p.Streams.IDs().GetStdout())
	// Nobody reads: the stream is closed on the guest, whose process gets SIGPIPE.
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Write(buf); err != nil {
			break
		}
	}
	agent.wait <- &agentproto.WaitResponse{ExitCode: 141, StdoutBytes: 1 << 30}
	if e := <-ended; e.code != 141 || e.err != nil {
		t.Errorf("exit code %d, %v", e.code, e.err)
	}
}

func TestInputAndItsEnd(t *testing.T) {
	agent := newFakeAgent()
	inR, inW := pipe(t)
	p, _ := start(t, agent, Files{Stdin: inR}, nil)
	if _, err := inW.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	_ = inW.Close()
	conn := agent.stream(t, p.Streams.IDs().GetStdin())
	buf := make([]byte, 5)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
		t.Errorf("read %q, %v", buf, err)
	}
	if n := <-agent.stdinEnd; n != 5 {
		t.Errorf("the end was said at byte %d", n)
	}
}

func TestNullInputNeedsNoStream(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	streams, err := OpenStreams(t.Context(), newFakeAgent(), Files{Stdin: null})
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	if id := streams.IDs().GetStdin(); id != 0 {
		t.Errorf("stream %d", id)
	}
}

func TestSignalsArePassedOnInOrder(t *testing.T) {
	agent := newFakeAgent()
	signals := make(chan os.Signal, 3)
	_, _ = start(t, agent, Files{}, signals)
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGHUP} {
		signals <- s
	}
	for _, want := range []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGHUP} {
		if got := <-agent.signals; unix.Signal(got) != want {
			t.Errorf("signal %d instead of %d", got, want)
		}
	}
}

func TestGuestGone(t *testing.T) {
	agent := newFakeAgent()
	_, ended := start(t, agent, Files{}, nil)
	agent.wait <- nil
	if e := <-ended; e.code != shimproto.ExitLost || e.err == nil {
		t.Errorf("exit code %d for a guest that is gone, %v", e.code, e.err)
	}
}

func TestResize(t *testing.T) {
	c, err := newPty(t)
	if err != nil {
		t.Fatal(err)
	}
	agent := newFakeAgent()
	signals := make(chan os.Signal, 1)
	p := &Task{Container: "c", Agent: agent, Terminal: c}
	go p.relay(t.Context(), signals)
	if err := unix.IoctlSetWinsize(int(c.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}); err != nil {
		t.Fatal(err)
	}
	signals <- unix.SIGWINCH
	if size := <-agent.sizes; size.GetHeight() != 33 || size.GetWidth() != 77 {
		t.Errorf("size %v", size)
	}
}

// newPty opens a pty and gives its slave.
func newPty(t *testing.T) (*os.File, error) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	// TIOCGPTPEER takes open(2)'s flags as its argument: ioctl_tty(2).
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		return nil, errno
	}
	slave := os.NewFile(fd, "slave")
	t.Cleanup(func() { _ = slave.Close() })
	return slave, nil
}
