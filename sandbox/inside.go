package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"runch/agentproto"
	"runch/shim"

	"golang.org/x/sys/unix"
)

// exitUndone is how a shim ends that has undone itself; nobody reads it but the
// command that started it.
const exitUndone = 1

// errUndo says that the command which gave the orders is gone.
var errUndo = errors.New("the command that started the shim is gone")

// RunShim is the body of the hidden command `runch shim`: it takes its orders
// from file descriptor 3 and returns the exit code to end with.
func RunShim() int {
	signals := shim.Catch()
	unix.Umask(0o022)
	ch, err := newChannel(os.NewFile(syncFD, "sync"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "runch shim is started by other commands of runch:", err)
		return exitUndone
	}
	var o orders
	if err := ch.receive(&o); err != nil {
		return exitUndone
	}
	in := &inside{channel: ch, orders: &o, signals: signals}
	// Set when there is something to give back. The host's /proc is there now.
	in.release = time.AfterFunc(o.Timeout, shim.ReadProgramMappings().Release)
	defer in.release.Stop()
	code, err := in.run()
	if err != nil {
		if !errors.Is(err, errUndo) {
			_ = ch.send(failed(err))
		}
		return exitUndone
	}
	return code
}

// inside is a shim at work.
type inside struct {
	channel *channel
	orders  *orders
	signals <-chan os.Signal
	console *shim.Console
	// replies are the command's, until the commit; closed when it is gone.
	replies chan reply
	// release gives memory back, when it fires.
	release *time.Timer
}

func (in *inside) run() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), in.orders.Timeout)
	defer cancel()
	ctx, undo := context.WithCancelCause(ctx)
	defer undo(nil)
	in.replies = make(chan reply)
	go in.listen(undo)
	files, err := in.files()
	if err != nil {
		return 0, err
	}
	var p *shim.Process
	var g *guest
	switch {
	case in.orders.Container != nil:
		p, g, err = in.bootContainer(ctx, files)
	case in.orders.Exec != nil:
		p, err = in.startExec(ctx, files)
	default:
		err = errors.New("empty orders")
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), errUndo) {
			return 0, errUndo
		}
		return 0, err
	}
	if !in.committed(ctx) {
		return 0, errUndo
	}
	return in.attend(p, g), nil
}

// connect opens what a process in a guest needs: a connection to the agent, and
// its streams.
func connect(ctx context.Context, d agentproto.Dialer, files shim.Files) (*agentproto.Client, *shim.Streams, error) {
	client, err := agentproto.Connect(ctx, d)
	if err != nil {
		return nil, nil, fmt.Errorf("reach the agent: %w", err)
	}
	streams, err := shim.OpenStreams(ctx, d, files)
	if err != nil {
		_ = client.Close() // it was not used
		return nil, nil, err
	}
	return client, streams, nil
}

// settleTime is when a shim has come to rest, after its setup or after the last
// connection that it has carried to the guest for another process.
const settleTime = 2 * time.Second

// settle makes the shim give back, once it has come to rest, what was needed
// until now.
func (in *inside) settle() { in.release.Reset(settleTime) }

// attend carries the process until it has ended; g is nil where the sandbox is
// another shim's. What the setup needed is given back: this lasts.
func (in *inside) attend(p *shim.Process, g *guest) int {
	in.orders = nil
	in.settle()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if g != nil {
		go func() {
			<-g.lost
			cancel()
		}()
	}
	code, err := p.Run(ctx, in.signals)
	if err != nil && g != nil {
		g.leaveNote(err)
	}
	return code
}

// listen takes the command's replies; the socket's end before the commit
// undoes everything.
func (in *inside) listen(undo context.CancelCauseFunc) {
	defer close(in.replies)
	for {
		var r reply
		if err := in.channel.receive(&r); err != nil {
			undo(errUndo)
			return
		}
		in.replies <- r
		if r.Commit {
			return
		}
	}
}

func (in *inside) proceed(ctx context.Context) error {
	select {
	case r := <-in.replies:
		if r.Proceed {
			return nil
		}
		return errUndo
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (in *inside) committed(ctx context.Context) bool {
	defer in.channel.close()
	select {
	case r := <-in.replies:
		return r.Commit
	case <-ctx.Done():
		return false
	}
}

// files gives the host's side of the process's stdio: a pty, or what the
// command left at 0, 1 and 2.
func (in *inside) files() (shim.Files, error) {
	if in.orders.Terminal == nil {
		return shim.Files{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, nil
	}
	c, err := shim.NewConsole(in.orders.Terminal.Size)
	if err != nil {
		return shim.Files{}, err
	}
	in.console = c
	return shim.Files{Stdin: c.Slave, Stdout: c.Slave}, nil
}

// ready reports, and hands the terminal's master over first: the caller may
// look for it as soon as the command has ended.
func (in *inside) ready(r *readyReport) error {
	if in.console != nil {
		conn, err := net.FileConn(os.NewFile(consoleFD, "console"))
		if err != nil {
			return fmt.Errorf("open the console socket: %w", err)
		}
		defer conn.Close()
		unixConn, ok := conn.(*net.UnixConn)
		if !ok {
			return errors.New("the console socket is no unix socket")
		}
		if err := in.console.Send(unixConn); err != nil {
			return err
		}
	}
	return in.channel.send(report{Ready: r})
}

// stdio says to the agent what the process's streams are.
func (in *inside) stdio(streams *shim.Streams) *agentproto.Stdio {
	ids := streams.IDs()
	ids.PlainNewlines = in.orders.Terminal != nil && in.orders.Terminal.PlainNewlines
	return ids
}

func (in *inside) terminalSize() *agentproto.TerminalSize {
	if in.orders.Terminal == nil {
		return nil
	}
	if size, err := shim.Size(in.console.Slave); err == nil && size.GetHeight() != 0 {
		return size
	}
	return in.orders.Terminal.Size
}

func (in *inside) slave() *os.File {
	if in.console == nil {
		return nil
	}
	return in.console.Slave
}

// nowNS is the host's clock, for the guest's.
func nowNS() int64 { return time.Now().UnixNano() }
