package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/yamux"
	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/transport/serial"
)

// host is the other side of a serial transport.
type host struct{ *yamux.Session }

// Dial implements agentproto.Dialer.
func (h host) Dial(_ context.Context, port uint32) (net.Conn, error) {
	conn, err := h.Open()
	if err != nil {
		return nil, err
	}
	return conn, serial.WritePort(conn, port)
}

// serveHost runs an agent that has no guest around it, over a pipe.
func serveHost(t *testing.T) (host, *Agent, *transport) {
	t.Helper()
	there, here := net.Pipe()
	session, err := yamux.Client(there, yamuxConfig(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	guest, err := yamux.Server(here, yamuxConfig(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guest.Close() })
	way := demux(guest, agentproto.HelloPort)
	a := newAgent(slog.New(slog.DiscardHandler), false)
	if _, err := a.serve(t.Context(), way); err != nil {
		t.Fatal(err)
	}
	return host{session}, a, way
}

func connect(t *testing.T, h host) *agentproto.Client {
	t.Helper()
	c, err := agentproto.Connect(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestHello(t *testing.T) {
	h, a, way := serveHost(t)
	said := make(chan error, 1)
	go func() {
		conn, err := way.dialHello(t.Context())
		if err == nil {
			err = a.hello(conn)
		}
		said <- err
	}()
	conn, err := h.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if port, err := serial.ReadPort(conn); err != nil || port != agentproto.HelloPort {
		t.Fatalf("port %d, %v", port, err)
	}
	hello, err := agentproto.ReadHello(conn)
	if err := errors.Join(err, <-said); err != nil {
		t.Fatal(err)
	}
	if hello.GetKernelRelease() == "" || hello.GetAgentVersion() == "" || hello.GetTimeline().GetHelloNs() == 0 {
		t.Errorf("hello %v", hello)
	}
}

func TestCallsAboutNothing(t *testing.T) {
	h, _, _ := serveHost(t)
	c := connect(t, h)
	ctx := t.Context()
	_, wait := c.Wait(ctx, &agentproto.WaitRequest{ContainerId: "x"})
	_, start := c.StartContainer(ctx, &agentproto.StartContainerRequest{ContainerId: "x"})
	_, signal := c.Signal(ctx, &agentproto.SignalRequest{ContainerId: "x", Signal: 9})
	_, pause := c.Pause(ctx, &agentproto.PauseRequest{ContainerId: "x"})
	_, resume := c.Resume(ctx, &agentproto.ResumeRequest{ContainerId: "x"})
	_, resize := c.Resize(ctx, &agentproto.ResizeRequest{ContainerId: "x"})
	_, stdin := c.CloseStdin(ctx, &agentproto.CloseStdinRequest{ContainerId: "x"})
	_, ps := c.Processes(ctx, &agentproto.ProcessesRequest{ContainerId: "x"})
	_, exec := c.Exec(ctx, &agentproto.ExecRequest{ContainerId: "x", ExecId: "e", Process: []byte(`{"args":["a"],"cwd":"/"}`)})
	for name, err := range map[string]error{
		"wait": wait, "start": start, "signal": signal, "pause": pause, "resume": resume,
		"resize": resize, "stdin": stdin, "ps": ps, "exec": exec,
	} {
		if err := agentproto.FromAgent(err); !errors.Is(err, agentproto.ErrNotFound) || err.Error() != "container does not exist" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, signal = c.Signal(ctx, &agentproto.SignalRequest{ContainerId: "x", Signal: 65})
	_, create := c.CreateContainer(ctx, &agentproto.CreateContainerRequest{ContainerId: "x"})
	_, exec = c.Exec(ctx, &agentproto.ExecRequest{ContainerId: "x"})
	for name, err := range map[string]error{"signal": signal, "create": create, "exec": exec} {
		if !errors.Is(agentproto.FromAgent(err), agentproto.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	info, err := c.Info(ctx, &agentproto.InfoRequest{})
	if err != nil || info.GetCalls() != 13 || info.GetMemoryTotalBytes() == 0 || info.GetAgentRssBytes() == 0 {
		t.Errorf("info %v, %v", info, err)
	}
}

// fakeProcess is one without a process behind it.
func fakeProcess() *process {
	return &process{stdio: &stdio{conns: new(conns)}, exited: make(chan struct{}), done: make(chan struct{})}
}

// fakeContainer is one that has an init without a process behind it.
func fakeContainer(a *Agent, id string) *container {
	c := &container{id: id, init: fakeProcess(), privatePID: true, gone: make(chan struct{}), execs: make(map[string]*process)}
	a.table.release(id, c)
	return c
}

func TestWaitAnswersEverybody(t *testing.T) {
	h, a, _ := serveHost(t)
	c := fakeContainer(a, "x")
	answers := make(chan *agentproto.WaitResponse, 2)
	for range 2 {
		client := connect(t, h)
		go func() {
			resp, err := client.Wait(t.Context(), &agentproto.WaitRequest{ContainerId: "x"})
			if err != nil {
				t.Error(err)
			}
			answers <- resp
		}()
	}
	c.phase = stopped
	close(c.init.exited)
	c.init.finish(&agentproto.WaitResponse{ExitCode: 7})
	for range 2 {
		if resp := <-answers; resp.GetExitCode() != 7 {
			t.Errorf("answer %v", resp)
		}
	}
	client := connect(t, h)
	_, err := client.Signal(t.Context(), &agentproto.SignalRequest{ContainerId: "x", Signal: uint32(unix.SIGTERM)})
	if err := agentproto.FromAgent(err); !errors.Is(err, agentproto.ErrState) || err.Error() != "container not running" {
		t.Errorf("signal: %v", err)
	}
	_, err = client.StartContainer(t.Context(), &agentproto.StartContainerRequest{ContainerId: "x"})
	if err := agentproto.FromAgent(err); !errors.Is(err, agentproto.ErrState) || err.Error() != errStartStopped.Error() {
		t.Errorf("start: %v", err)
	}
}

func TestWaitEndsWithItsTime(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	c := fakeContainer(a, "x")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.Wait(ctx, &agentproto.WaitRequest{ContainerId: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("an answer without an end")
	}
	select {
	case <-c.init.exited:
		t.Error("a caller that stops waiting is no shim that was killed")
	default:
	}
}

// An exec whose shim was killed is forgotten, whether the shim dies before or after the
// exec's end: during a container's life there may be any number of them.
func TestExecOfADeadShimIsForgotten(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	c := fakeContainer(a, "x")
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	late, early := fakeProcess(), fakeProcess()
	late.lc = new(libcontainer.Process) // which cannot be signalled
	c.setExec("late", late)
	if _, err := a.Wait(dead, &agentproto.WaitRequest{ContainerId: "x", ExecId: "late"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := c.process("late"); err != nil {
		t.Errorf("forgotten before its end: %v", err)
	}
	c.endExec("late", late, new(agentproto.WaitResponse))
	c.setExec("early", early)
	c.endExec("early", early, new(agentproto.WaitResponse))
	if _, err := c.process("early"); err != nil {
		t.Errorf("nobody has asked for its result yet: %v", err)
	}
	c.abandon("early", early)
	if len(c.execs) != 0 {
		t.Errorf("%d are still there", len(c.execs))
	}
}

// A shim may be killed between the answer to its call and its Wait: then nobody waits.
func TestProcessThatNobodyWaitsForIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(slog.New(slog.DiscardHandler), false)
		for _, waited := range []bool{false, true} {
			c := fakeContainer(a, fmt.Sprint(waited))
			c.init.lc = new(libcontainer.Process) // which cannot be signalled
			if waited {
				c.init.waits.Add(1)
			}
			a.expectWait(c, "", c.init)
			<-time.After(unwaitedTimeout + time.Second)
			synctest.Wait()
			if c.init.abandoned.Load() == waited {
				t.Errorf("waited for: %v, ended: %v", waited, !waited)
			}
		}
	})
}

// shortListener has no descriptor for its first connections.
type shortListener struct {
	net.Listener
	refusals int
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.refusals > 0 {
		l.refusals--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", unix.EMFILE)}
	}
	return l.Listener.Accept()
}

// A shortage of file descriptors is temporary and must not end the VM.
func TestAcceptOutlivesAShortage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // there is nothing to cancel
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(slog.New(slog.DiscardHandler), false)
	served, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- a.accept(&shortListener{l, 2}, "stream", func(conn net.Conn) error {
			close(served)
			return conn.Close()
		})
	}()
	conn, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // nor here
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-served
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("it ended with %v", err)
	}
}

func TestCutTransport(t *testing.T) {
	h, _, way := serveHost(t)
	_ = h.Close()
	select {
	case <-way.cut:
	case <-time.After(time.Minute):
		t.Fatal("the cut is not seen")
	}
	if _, err := way.control.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if _, err := way.dialHello(t.Context()); err == nil {
		t.Error("dialled over a cut")
	}
}

func TestStrayPortIsClosed(t *testing.T) {
	h, _, _ := serveHost(t)
	conn, err := h.Dial(t.Context(), 99)
	if err != nil {
		t.Fatal(err)
	}
	if !closed(conn) {
		t.Error("a port that nobody listens on")
	}
}

func TestControlConnectionsEndPlainly(t *testing.T) {
	there, here := net.Pipe()
	_ = here.Close()
	defer there.Close()
	q := newQueue()
	l := controlListener{Listener: q, open: new(atomic.Int64)}
	go q.put(here)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // ttrpc compares with ==, which a wrapped one would not pass
		t.Errorf("read: %v", err)
	}
	_, _ = conn.Close(), conn.Close()
	if n := l.open.Load(); n != 0 {
		t.Errorf("%d connections are counted", n)
	}
}

func TestTransportOfThisMachine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := findPort(ctx, "runch.no.such.port"); err == nil {
		t.Error("found a port that does not exist")
	}
}
