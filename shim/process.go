package shim

import (
	"context"
	"fmt"
	"os"
	"time"

	"runch/agentproto"

	"golang.org/x/sys/unix"
)

// callTimeout bounds every call to the agent but Wait.
const callTimeout = 10 * time.Second

// ExitLost is how a shim ends whose guest is gone: as if by SIGKILL.
const ExitLost = 128 + int(unix.SIGKILL)

// Process is a process in the guest and what the shim has of it.
type Process struct {
	// Container and Exec name it; Exec is empty for the container's init.
	Container, Exec string
	Agent           agentproto.AgentService
	Streams         *Streams
	// Terminal is the slave of the host's pty, nil without one.
	Terminal *os.File
}

// Run carries the process's stdio and signals until it has ended, and returns
// the exit code that stands for its end: 0 to 255, and 128+N for signal N. When
// ctx ends or the guest is gone it is ExitLost, and the error says what was
// met. The process exists in the guest already. signals is what Catch gave.
func (p *Process) Run(ctx context.Context, signals <-chan os.Signal) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.Streams.Start(func(bytes uint64) { p.closeStdin(ctx, bytes) })
	go p.relay(ctx, signals)
	answer, err := p.Agent.Wait(ctx, &agentproto.WaitRequest{ContainerId: p.Container, ExecId: p.Exec})
	if err != nil {
		return ExitLost, fmt.Errorf("wait for the process: %w", err)
	}
	if err := p.Streams.Drain(answer.GetStdoutBytes(), answer.GetStderrBytes()); err != nil {
		return ExitLost, fmt.Errorf("pass the process's output on: %w", err)
	}
	return int(answer.GetExitCode() & 0xff), nil
}

func (p *Process) closeStdin(ctx context.Context, bytes uint64) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// An error says that the process, or the guest, has ended.
	_, _ = p.Agent.CloseStdin(ctx, &agentproto.CloseStdinRequest{ContainerId: p.Container, ExecId: p.Exec, Bytes: bytes})
}

// relay passes signals on, one by one and in their order, and the terminal's
// size when that changed.
func (p *Process) relay(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			number, ok := sig.(unix.Signal)
			switch {
			case !ok:
			case number == unix.SIGWINCH && p.Terminal != nil:
				p.resize(ctx)
			default:
				p.signal(ctx, number)
			}
		}
	}
}

func (p *Process) signal(ctx context.Context, number unix.Signal) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// An error says that there is nobody left to signal.
	_, _ = p.Agent.Signal(ctx, &agentproto.SignalRequest{
		ContainerId: p.Container, ExecId: p.Exec, Signal: uint32(number), // #nosec G115 -- a signal's number
	})
}

func (p *Process) resize(ctx context.Context) {
	size, err := Size(p.Terminal)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, _ = p.Agent.Resize(ctx, &agentproto.ResizeRequest{ContainerId: p.Container, ExecId: p.Exec, Size: size})
}

// Size is the terminal's size.
func Size(tty *os.File) (*agentproto.TerminalSize, error) {
	ws, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil, fmt.Errorf("get the terminal's size: %w", err)
	}
	return &agentproto.TerminalSize{Height: uint32(ws.Row), Width: uint32(ws.Col)}, nil
}
