package shim

import (
	"context"
	"fmt"
	"os"
	"time"

	"runch/agentproto"
	"runch/shimproto"

	"golang.org/x/sys/unix"
)

// callTimeout bounds every call to the agent except Wait.
const callTimeout = 10 * time.Second

// Task is a process in the guest and what the shim has of it.
type Task struct {
	// Container and Exec name it; Exec is empty for the container's init.
	Container, Exec string
	Agent           agentproto.AgentService
	Streams         *Streams
	// Terminal is the slave of the host's pty, nil without one.
	Terminal *os.File

	// oomKilled is set once Run has returned, if the guest's kernel has killed a
	// process of the container for lack of memory.
	oomKilled bool

	// ended has what the agent says of the process's end, once Watch was called.
	ended chan ending
}

type ending struct {
	answer *agentproto.WaitResponse
	err    error
}

// Watch begins to wait for the process's end. Call it as soon as the guest has the
// process: the agent ends a process whose shim is lost during the wait. Watch returns
// when sent is closed, which says that the request is on its way (nil: at once), or when
// ctx ends; the wait goes on after that. Run calls Watch if nobody has.
func (t *Task) Watch(ctx context.Context, sent <-chan struct{}) {
	lasting := context.WithoutCancel(ctx)
	t.ended = make(chan ending, 1)
	go func() {
		// It ends with the process, or with the connection.
		answer, err := t.Agent.Wait(lasting, &agentproto.WaitRequest{ContainerId: t.Container, ExecId: t.Exec})
		t.ended <- ending{answer, err}
	}()
	if sent == nil {
		return
	}
	select {
	case <-sent:
	case end := <-t.ended:
		t.ended <- end
	case <-ctx.Done():
	}
}

// Run carries the process's stdio and signals until it has ended, and returns
// the exit code that stands for its end: 0 to 255, and 128+N for signal N. When
// ctx ends, the guest is gone or output is lost, the code is shimproto.ExitLost, and
// the error says why. The process exists in the guest already. signals is the channel
// of signals.Catch.
func (t *Task) Run(ctx context.Context, signals <-chan os.Signal) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if t.ended == nil {
		t.Watch(ctx, nil)
	}
	t.Streams.Start(func(bytes uint64) { t.closeStdin(ctx, bytes) })
	go t.relay(ctx, signals)
	var end ending
	select {
	case end = <-t.ended:
	case <-ctx.Done():
		end.err = ctx.Err()
	}
	if end.err != nil {
		return shimproto.ExitLost, fmt.Errorf("wait for the process: %w", end.err)
	}
	answer := end.answer
	t.oomKilled = answer.GetOomKilled()
	code := int(answer.GetExitCode() & 0xff)
	killed := code == 128+int(unix.SIGKILL)
	if err := t.Streams.Drain(answer.GetStdoutBytes(), answer.GetStderrBytes(), killed); err != nil {
		return shimproto.ExitLost, fmt.Errorf("pass the process's output on: %w", err)
	}
	return code, nil
}

func (t *Task) closeStdin(ctx context.Context, bytes uint64) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// An error says that the process, or the guest, has ended.
	_, _ = t.Agent.CloseStdin(ctx, &agentproto.CloseStdinRequest{ContainerId: t.Container, ExecId: t.Exec, Bytes: bytes})
}

// relay passes signals on, one by one and in their order, and the terminal's
// size when that changed.
func (t *Task) relay(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			number, ok := sig.(unix.Signal)
			switch {
			case !ok:
			case number == unix.SIGWINCH && t.Terminal != nil:
				t.resize(ctx)
			default:
				t.signal(ctx, number)
			}
		}
	}
}

func (t *Task) signal(ctx context.Context, number unix.Signal) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// An error says that there is nobody left to signal.
	_, _ = t.Agent.Signal(ctx, &agentproto.SignalRequest{
		ContainerId: t.Container, ExecId: t.Exec, Signal: uint32(number), // #nosec G115 -- a signal's number
	})
}

func (t *Task) resize(ctx context.Context) {
	size, err := Size(t.Terminal)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, _ = t.Agent.Resize(ctx, &agentproto.ResizeRequest{ContainerId: t.Container, ExecId: t.Exec, Size: size})
}

// Size gives the size of a terminal, in characters.
func Size(tty *os.File) (*agentproto.TerminalSize, error) {
	ws, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil, fmt.Errorf("get the terminal's size: %w", err)
	}
	return &agentproto.TerminalSize{Height: uint32(ws.Row), Width: uint32(ws.Col)}, nil
}
