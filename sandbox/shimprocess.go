package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"runch/shimproto"

	"golang.org/x/sys/unix"
)

// shimProcess is a shim that this command has started and not yet let go.
type shimProcess struct {
	process *os.Process
	conn    *shimproto.Conn
	// ended is closed when the process has ended. It is a zombie then, which undo and
	// exitCode reap.
	ended chan struct{}
}

func (p *shimProcess) pid() int { return p.process.Pid }

// awaitZombie returns when a child has ended, and does not reap it: the exit status of a
// shim that was handed over is for the caller, even if the shim ends before this command.
func awaitZombie(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// undo ends the shim and what it has made. It returns when the shim is gone, or after
// goneTimeout: the kernel keeps the PID 1 of a namespace until all processes in there
// have ended, and one that waits for a disk cannot be killed. The cleanup that follows
// then finds the shim alive, and keeps the records for another delete.
func (p *shimProcess) undo() { p.undoWithin(goneTimeout) }

func (p *shimProcess) undoWithin(timeout time.Duration) {
	p.conn.Close()
	_ = p.process.Kill()
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case <-p.ended:
		_, _ = p.process.Wait() // how it ended is our doing
	case <-late.C:
	}
}

// send sends the shim its setup. It gives up when ctx ends: a stopped shim does not read.
func (p *shimProcess) send(ctx context.Context, setup *shimproto.Setup) error {
	stop := context.AfterFunc(ctx, p.conn.Interrupt)
	defer stop()
	if err := p.conn.Send(setup); err != nil {
		return p.failed(ctx, err)
	}
	return nil
}

// await takes the shim's last report, until ctx ends.
func (p *shimProcess) await(ctx context.Context) (*shimproto.Ready, error) {
	r, err := p.receive(ctx)
	if err != nil {
		return nil, err
	}
	if r.Ready == nil {
		return nil, errors.New("the shim's report is empty")
	}
	return r.Ready, nil
}

// errNoReport says that a shim ended before it reported.
var errNoReport = errors.New("the shim ended without a report")

// receive takes the shim's next report, until ctx ends.
func (p *shimProcess) receive(ctx context.Context) (*shimproto.Report, error) {
	stop := context.AfterFunc(ctx, p.conn.Interrupt)
	defer stop()
	var r shimproto.Report
	if err := p.conn.Receive(&r); err != nil {
		return nil, p.failed(ctx, err)
	}
	return &r, r.Err()
}

// failed says why the shim's socket has failed: because ctx has ended, or the shim.
func (p *shimProcess) failed(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("wait for the shim: %w", cause)
	case cause != nil:
		return &shimproto.VMError{Err: fmt.Errorf("wait for the shim: %w", cause)}
	}
	return &shimproto.VMError{Err: fmt.Errorf("%w (killed, or out of memory): %w", errNoReport, err)}
}

// exitCode waits for the shim's end and gives its exit code, which is that of the process
// for which the shim stands.
func (p *shimProcess) exitCode() int {
	<-p.ended
	state, err := p.process.Wait()
	if err != nil {
		return shimproto.ExitLost // somebody else has reaped it
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}
