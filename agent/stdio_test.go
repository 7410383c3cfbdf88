package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// connPair gives both ends of a connection with buffers, as vsock's are.
func connPair(t *testing.T) (host, guest net.Conn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if host, err = new(net.Dialer).DialContext(t.Context(), "unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if guest, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = host.Close(), guest.Close() })
	return host, guest
}

// collect reads a connection to its end.
func collect(conn net.Conn) <-chan []byte {
	out := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(conn)
		out <- b
	}()
	return out
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func TestOutputIsCompleteAtExit(t *testing.T) {
	r, w := pipe(t)
	host, guest := connPair(t)
	got := collect(host)
	o := newOutput(r, guest)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "head -c 10485760 /dev/zero | tr '\\0' x")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	o.end(false)
	o.await()
	if b := <-got; len(b) != 10<<20 || o.bytes() != 10<<20 {
		t.Errorf("%d bytes came, %d were counted", len(b), o.bytes())
	}
}

func TestOutputDoesNotWaitForGrandchildren(t *testing.T) {
	r, w := pipe(t)
	host, guest := connPair(t)
	got := collect(host)
	o := newOutput(r, guest)
	if _, err := w.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	// w stays open, as in a process that outlives the one that ended.
	o.end(false)
	o.await()
	if b := <-got; string(b) != "last words" || o.bytes() != 10 {
		t.Errorf("%q, counted %d", b, o.bytes())
	}
	if _, err := w.WriteString("late"); !errors.Is(err, unix.EPIPE) {
		t.Errorf("writing later: %v", err)
	}
}

func TestOutputEndsUnderAnEndlessWriter(t *testing.T) {
	r, w := pipe(t)
	host, guest := connPair(t)
	got := collect(host)
	o := newOutput(r, guest)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if _, err := w.Write(bytes.Repeat([]byte("y\n"), 4096)); err != nil {
				return
			}
		}
	}()
	o.end(false)
	o.await()
	if b := <-got; uint64(len(b)) != o.bytes() {
		t.Errorf("%d bytes came, %d were counted", len(b), o.bytes())
	}
	<-stopped
}

func TestOutputClosesWhenTheHostDoes(t *testing.T) {
	r, w := pipe(t)
	host, guest := connPair(t)
	o := newOutput(r, guest)
	_ = host.Close()
	<-o.done
	if _, err := w.WriteString("x"); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the process may go on writing: %v", err)
	}
	o.end(false)
	o.await()
	(*output)(nil).end(false)
	(*output)(nil).await()
	if (*output)(nil).bytes() != 0 {
		t.Error("no output has bytes")
	}
}

// A killed process ends even if nobody reads its output.
func TestOutputOfAKilledProcessIsNotWaitedFor(t *testing.T) {
	r, w := pipe(t)
	_, guest := connPair(t)
	o := newOutput(r, guest)
	cmd := exec.CommandContext(t.Context(), "yes")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	// Kill it when the pipe and the connection are full.
	for before := uint64(1); o.bytes() == 0 || o.bytes() != before; {
		before = o.bytes()
		<-time.After(50 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	o.end(true)
	select {
	case <-o.done:
	case <-time.After(time.Minute):
		t.Error("its output is waited for")
	}
}

func TestInput(t *testing.T) {
	for _, tc := range []struct {
		name string
		sent string
		end  uint64 // said before sending
		cut  bool   // the connection breaks instead
		want string
	}{
		{name: "all of it", sent: "some input", end: 10, want: "some input"},
		{name: "nothing", end: 0},
		{name: "no more than said", sent: "some input", end: 4, want: "some"},
		{name: "connection ends", sent: "some input", cut: true, want: "some input"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, w := pipe(t)
			host, guest := connPair(t)
			in := newInput(guest, w, false)
			defer in.close()
			if !tc.cut {
				in.end(tc.end)
			}
			if _, err := io.WriteString(host, tc.sent); err != nil && tc.end != 0 {
				t.Fatal(err)
			}
			if tc.cut {
				_ = host.Close()
			}
			b, err := io.ReadAll(r)
			if err != nil || string(b) != tc.want {
				t.Errorf("read %q, %v; want %q", b, err, tc.want)
			}
		})
	}
}

func TestInputEndComesLate(t *testing.T) {
	r, w := pipe(t)
	host, guest := connPair(t)
	in := newInput(guest, w, false)
	if _, err := io.WriteString(host, "abc"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	if _, err := io.ReadFull(r, buf); err != nil {
		t.Fatal(err)
	}
	in.end(3)
	if n, err := r.Read(buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v", n, err)
	}
	(*input)(nil).close()
}

func TestInputOfAProcessThatDoesNotRead(t *testing.T) {
	r, w := pipe(t)
	host, guest := connPair(t)
	in := newInput(guest, w, false)
	go func() { _, _ = host.Write(make([]byte, 1<<20)) }()
	_ = r.Close()
	if err := host.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the host is not told: %v", err)
	}
	in.close()
}

// openPTY gives a terminal's master and slave.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

func TestTerminal(t *testing.T) {
	master, slave := openPTY(t)
	hostIn, guestIn := connPair(t)
	hostOut, guestOut := connPair(t)
	lp := new(libcontainer.Process)
	s, err := newStdio(lp, &conns{stdin: guestIn, stdout: guestOut}, true, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	// libcontainer's init sends the master like this.
	if err := unix.Sendmsg(int(lp.ConsoleSocket.Fd()), []byte("/dev/pts/ptmx"), unix.UnixRights(int(master.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	_ = master.Close()
	got := collect(hostOut)
	if err := s.resize(33, 101); err != nil {
		t.Fatal(err)
	}
	size, err := unix.IoctlGetWinsize(int(slave.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row != 33 || size.Col != 101 {
		t.Errorf("size %+v, %v", size, err)
	}
	if _, err := io.WriteString(hostIn, "typed\n"); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 16)
	n, err := slave.Read(line)
	if err != nil || string(line[:n]) != "typed\n" {
		t.Errorf("read %q, %v", line[:n], err)
	}
	s.closeStdin(0) // no effect: a terminal stays open
	if _, err := slave.WriteString("said\n"); err != nil {
		t.Fatal(err)
	}
	s.finish(false) // the slave is still open, as in a grandchild
	if b := <-got; string(b) != "typed\r\nsaid\r\n" || s.out.bytes() != uint64(len(b)) {
		t.Errorf("%q, counted %d", b, s.out.bytes())
	}
}

func TestTerminalWithPlainNewlines(t *testing.T) {
	master, slave := openPTY(t)
	host, guest := connPair(t)
	s := &stdio{conns: &conns{stdout: guest, plainNewlines: true}}
	fd, err := unix.Dup(int(master.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	file, err := consoleFile(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.startConsole(file); err != nil {
		t.Fatal(err)
	}
	got := collect(host)
	if _, err := slave.WriteString("said\n"); err != nil {
		t.Fatal(err)
	}
	s.finish(false)
	if b := <-got; string(b) != "said\n" {
		t.Errorf("%q", b)
	}
}

func TestTerminalThatDoesNotCome(t *testing.T) {
	_, guest := connPair(t)
	lp := new(libcontainer.Process)
	s, err := newStdio(lp, &conns{stdout: guest}, true, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.start(); err == nil {
		t.Error("a terminal without a master")
	}
}

func TestStdioWithoutStreamsIsNull(t *testing.T) {
	lp := new(libcontainer.Process)
	s, err := newStdio(lp, new(conns), false, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if lp.Stdin != nil || lp.Stdout != nil || lp.Stderr != nil {
		t.Error("libcontainer would not open /dev/null")
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	if err := s.resize(1, 1); !errors.Is(err, errNoTerminal) {
		t.Errorf("resize: %v", err)
	}
	s.closeStdin(0)
	s.finish(false)
}

func TestStdioAbortClosesEverything(t *testing.T) {
	hostIn, guestIn := connPair(t)
	hostOut, guestOut := connPair(t)
	lp := new(libcontainer.Process)
	s, err := newStdio(lp, &conns{stdin: guestIn, stdout: guestOut}, false, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.abort()
	if !closed(hostIn) || !closed(hostOut) {
		t.Error("a connection is left open")
	}
	if f, ok := lp.Stdout.(*os.File); !ok || !errors.Is(f.Close(), os.ErrClosed) {
		t.Error("the process's end is left open")
	}
}
