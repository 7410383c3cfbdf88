package agent

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// stdio is a process's standard streams: before start the process's own ends,
// after it the copying to and from the host.
type stdio struct {
	conns *conns
	// child are the ends that the process gets; closed after its start.
	child []*os.File
	// stdin, stdout and stderr are the agent's ends of the pipes, until the copying owns them.
	stdin, stdout, stderr *os.File
	// socket receives the terminal's master from libcontainer.
	socket *os.File

	in       *input
	out, err *output
	console  *os.File
}

// newStdio makes the pipes, or what a terminal needs, and gives them to p. It
// owns c from here on.
func newStdio(p *libcontainer.Process, c *conns, terminal bool, rootUID, rootGID int) (_ *stdio, err error) {
	s := &stdio{conns: c}
	defer func() {
		if err != nil {
			s.abort()
		}
	}()
	if terminal {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("make console socket: %w", err)
		}
		s.socket = os.NewFile(uintptr(fds[0]), "console socket")
		p.ConsoleSocket = os.NewFile(uintptr(fds[1]), "console socket")
		s.child = append(s.child, p.ConsoleSocket)
		return s, nil
	}
	// A nil reader or writer makes libcontainer give /dev/null to the process.
	if c.stdin != nil {
		r, w, err := s.pipe(rootUID, rootGID)
		if err != nil {
			return nil, err
		}
		p.Stdin, s.stdin, s.child = r, w, append(s.child, r)
	}
	if c.stdout != nil {
		r, w, err := s.pipe(rootUID, rootGID)
		if err != nil {
			return nil, err
		}
		p.Stdout, s.stdout, s.child = w, r, append(s.child, w)
	}
	if c.stderr != nil {
		r, w, err := s.pipe(rootUID, rootGID)
		if err != nil {
			return nil, err
		}
		p.Stderr, s.stderr, s.child = w, r, append(s.child, w)
	}
	return s, nil
}

// pipe makes a pipe that belongs to the container's root user, so that this user can
// open /dev/stdout.
func (s *stdio) pipe(uid, gid int) (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	if uid == 0 && gid == 0 {
		return r, w, nil
	}
	for _, f := range []*os.File{r, w} {
		if err := f.Chown(uid, gid); err != nil {
			_, _ = r.Close(), w.Close()
			return nil, nil, fmt.Errorf("give pipe to the container's root: %w", err)
		}
	}
	return r, w, nil
}

// start begins to copy, once the process exists.
func (s *stdio) start() error {
	s.closeChild()
	if s.socket != nil {
		console, err := receiveConsole(s.socket)
		_ = s.socket.Close()
		s.socket = nil
		if err != nil {
			s.abort()
			return err
		}
		return s.startConsole(console)
	}
	if s.conns.stdin != nil {
		s.in = newInput(s.conns.stdin, s.stdin, false)
	}
	if s.conns.stdout != nil {
		s.out = newOutput(s.stdout, s.conns.stdout)
	}
	if s.conns.stderr != nil {
		s.err = newOutput(s.stderr, s.conns.stderr)
	}
	return nil
}

// startConsole copies to and from the terminal's master. The output has a
// descriptor of its own, which it closes at its end.
func (s *stdio) startConsole(console *os.File) error {
	s.console = console
	if s.conns.plainNewlines {
		if err := plainNewlines(console); err != nil {
			s.abort()
			return err
		}
	}
	if s.conns.stdout != nil {
		dup, err := dupConsole(console)
		if err != nil {
			s.abort()
			return err
		}
		s.out = newOutput(dup, s.conns.stdout)
	}
	if s.conns.stdin != nil {
		s.in = newInput(s.conns.stdin, console, true)
	}
	return nil
}

// finish is called when the process has ended: it sends the rest of the output
// and closes everything. If the process was killed, a host that reads nothing for
// stallTimeout does not get the rest.
func (s *stdio) finish(killed bool) {
	s.in.close()
	s.out.end(killed)
	s.err.end(killed)
	s.out.await()
	s.err.await()
	if s.console != nil {
		_ = s.console.Close()
	}
}

// abort closes everything of a process that did not start.
func (s *stdio) abort() {
	s.closeChild()
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr, s.socket, s.console} {
		if f != nil {
			_ = f.Close()
		}
	}
	s.in.close()
	s.conns.close()
}

func (s *stdio) closeChild() {
	for _, f := range s.child {
		_ = f.Close()
	}
	s.child = nil
}

// closeStdin says how long the process's input is.
func (s *stdio) closeStdin(total uint64) {
	if s.in != nil && !s.in.terminal {
		s.in.end(total)
	}
}

// resize sets the terminal's size.
func (s *stdio) resize(height, width uint16) error {
	if s.console == nil {
		return errNoTerminal
	}
	raw, err := s.console.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	size := &unix.Winsize{Row: height, Col: width}
	var ioctlErr error
	err = raw.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size)
	})
	if err := errors.Join(err, ioctlErr); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}
