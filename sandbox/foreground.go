package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"

	"runch/agentproto"
	"runch/shimproto"
	"runch/signals"
	"runch/unixsocket"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// foreground is a command that stays with its process: it passes signals on and, if the
// process has a terminal, copies between that and the caller's stdio.
type foreground struct {
	// console is what the shim sends the terminal's master over; nil without
	// a terminal.
	console *os.File
	// peer is the end of console's socket on which this command receives the master; nil
	// without a terminal, and when the caller has a console socket.
	peer *net.UnixConn
	// tty is the caller's terminal, nil when there is none.
	tty console.Console
	// terminal is the process's, nil without one.
	terminal *shimproto.Terminal
	// caught are the signals for the process, from before it is made.
	caught <-chan os.Signal
}

// newForeground prepares for a process that is to have this terminal, nil without
// one. If the process is detached, or there is a console socket, the terminal goes to
// that socket. Otherwise it is as large as the caller's own, unless it names a size.
func newForeground(detach bool, socket string, terminal *shimproto.Terminal) (*foreground, error) {
	f := &foreground{terminal: terminal}
	if terminal == nil {
		return f, nil
	}
	if detach || socket != "" {
		var err error
		f.console, err = dialConsole(socket)
		return f, err
	}
	var err error
	if f.peer, f.console, err = unixsocket.Pair("console"); err != nil {
		return nil, fmt.Errorf("make a console socket: %w", err)
	}
	f.terminal = &shimproto.Terminal{Size: terminal.Size, PlainNewlines: true}
	if f.tty, err = console.ConsoleFromFile(os.Stdin); err != nil {
		f.tty = nil // the caller's stdin is no terminal
	} else if size, err := f.tty.Size(); err == nil && terminal.Size == nil {
		f.terminal.Size = sizeOf(size)
	}
	return f, nil
}

func sizeOf(ws console.WinSize) *agentproto.TerminalSize {
	return &agentproto.TerminalSize{Height: uint32(ws.Height), Width: uint32(ws.Width)}
}

// close gives back what newForeground took.
func (f *foreground) close() {
	if f.console != nil {
		_ = f.console.Close()
	}
	if f.peer != nil {
		_ = f.peer.Close()
	}
}

// catch gives a context for making the process: SIGTERM and SIGINT cancel it, so
// that all is undone. Unless the process is detached, these and all other signals are
// also queued for wait, which passes them on. So at no moment can a signal end this
// command and leave the process behind. stop ends both.
func (f *foreground) catch(ctx context.Context, detach bool) (making context.Context, stop func()) {
	making, cancel := signals.Interruptible(ctx) // first: after Catch no signal counts as ignored
	if detach {
		return making, cancel
	}
	caught, release := signals.Catch()
	f.caught = caught
	return making, func() {
		cancel()
		release()
	}
}

// wait stays until the process has ended and gives its exit code.
func (f *foreground) wait(p *shimProcess) (int, error) {
	// With SIGPIPE ignored, a reader that is gone ends the output and not this command.
	// It is ignored only now, because hooks would inherit that.
	signal.Ignore(unix.SIGPIPE)
	defer signal.Reset(unix.SIGPIPE)
	var master console.Console
	if f.peer != nil {
		var err error
		if master, err = receiveMaster(f.peer); err != nil {
			p.undo()
			return 0, err
		}
		defer master.Close()
		finish, err := f.copyTerminal(master)
		if err != nil {
			p.undo()
			return 0, err
		}
		defer finish()
	}
	for {
		select {
		case sig := <-f.caught:
			number, ok := sig.(unix.Signal)
			switch {
			case !ok:
			case number == unix.SIGWINCH && master != nil && f.tty != nil:
				_ = master.ResizeFrom(f.tty)
			case number == unix.SIGWINCH:
			default:
				_ = p.process.Signal(number)
			}
		case <-p.ended:
			return p.exitCode(), nil
		}
	}
}

// copyTerminal connects the caller's stdio and the master. The returned
// function waits for the last output and restores the caller's terminal.
func (f *foreground) copyTerminal(master console.Console) (finish func(), err error) {
	if f.tty != nil {
		if err := f.tty.SetRaw(); err != nil {
			return nil, fmt.Errorf("set the terminal raw: %w", err)
		}
		_ = master.ResizeFrom(f.tty)
	}
	var out sync.WaitGroup
	out.Go(func() {
		// It ends with EIO, when the shim has closed the other side.
		_, _ = io.Copy(os.Stdout, master)
	})
	go func() {
		_, _ = io.Copy(master, os.Stdin)
	}()
	return func() {
		out.Wait()
		if f.tty != nil {
			_ = f.tty.Reset()
		}
	}, nil
}

// receiveMaster takes the terminal's master out of the shim's message.
func receiveMaster(conn *net.UnixConn) (console.Console, error) {
	fd, err := unixsocket.ReceiveDescriptor(conn)
	if err != nil {
		return nil, fmt.Errorf("receive the terminal: %w", err)
	}
	file := os.NewFile(uintptr(fd), "/dev/ptmx")
	master, err := console.ConsoleFromFile(file)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open the terminal: %w", err)
	}
	return master, nil
}
