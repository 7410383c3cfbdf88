package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"runch/agentproto"
	"runch/shimproto"
	"runch/signals"

	"golang.org/x/sys/unix"
)

// exitUndone is the exit code of a shim that has undone itself. Only the command that
// started the shim reads it.
const exitUndone = 1

// errUndo says that the command which started the shim is gone.
var errUndo = errors.New("the command that started the shim is gone")

// errVMLost is the error of a holder that stands for no container.
var errVMLost = errors.New("the VM is lost")

// settleTime is how long after its setup, or after its last work for a command, a shim
// counts as idle.
const settleTime = 2 * time.Second

// run does all that a shim does: it takes its Setup from file descriptor 3 and returns the
// exit code to end with. announce makes it tell the command its pid first.
func run(newVM NewVMFunc, announce bool) int {
	caught, _ := signals.Catch() // until this process ends
	signal.Ignore(unix.SIGPIPE)  // output that nobody reads is an error, not this process's end
	// The kernel has named the process after the path that it was started by, /proc/self/exe.
	_ = os.WriteFile("/proc/self/comm", []byte(shimproto.ProgramName), 0) // on failure only ps(1) shows another name
	unix.Umask(0o022)
	conn, err := shimproto.Open(os.NewFile(shimproto.SetupFD, "setup"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "runch shim is started by other commands of runch:", err)
		return exitUndone
	}
	if announce {
		if err := conn.Announce(); err != nil {
			return exitUndone
		}
	}
	s := &setup{conn: conn, signals: caught, newVM: newVM}
	if err := conn.Receive(&s.Setup); err != nil {
		return exitUndone
	}
	// settle sets the time of the release; s.Timeout is only a start. The mappings are read
	// now, while the host's /proc is there.
	s.release = time.AfterFunc(s.Timeout, ReadProgramMappings().Release)
	defer s.release.Stop()
	code, err := s.run()
	if err != nil {
		if !errors.Is(err, errUndo) {
			_ = conn.Send(shimproto.Failed(err))
		}
		return exitUndone
	}
	return code
}

// setup is a shim that is being set up, by a command that waits for it.
type setup struct {
	shimproto.Setup
	conn    *shimproto.Conn
	newVM   NewVMFunc
	signals <-chan os.Signal
	console *Console
	// replies are the command's. The channel is closed after the commit, or when the command is gone.
	replies chan shimproto.Reply
	// release gives memory back, when it fires.
	release *time.Timer
	// attendance tells the holder, as long as it is open, that this process lives; nil
	// where the holder need not know.
	attendance io.Closer
	// shortage reports to the host that the container was short of memory; nil without a container.
	shortage *shortage
}

func (s *setup) run() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	defer cancel()
	ctx, undo := context.WithCancelCause(ctx)
	defer undo(nil)
	s.replies = make(chan shimproto.Reply)
	go s.listen(undo)
	files, err := s.files()
	if err != nil {
		return 0, err
	}
	task, holder, err := s.make(ctx, files)
	if s.attendance != nil {
		defer s.attendance.Close()
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), errUndo) {
			return 0, errUndo
		}
		return 0, err
	}
	if !s.committed(ctx) {
		return 0, errUndo
	}
	return s.stay(task, holder), nil
}

// make makes what the command asks for; it gives no task where the process only
// holds a VM, and no holder where another process holds it.
func (s *setup) make(ctx context.Context, files Files) (*Task, *holder, error) {
	switch {
	case s.Container != nil && s.VM != nil:
		return s.makeWithVM(ctx, files)
	case s.VM != nil:
		holder, err := s.makeHolder(ctx)
		return nil, holder, err
	case s.Container != nil:
		task, err := s.makeMember(ctx, files)
		return task, nil, err
	case s.Exec != nil:
		task, err := s.makeExec(ctx, files)
		return task, nil, err
	default:
		return nil, nil, errors.New("the setup asks for nothing")
	}
}

// settle has the shim give memory back once it is idle (settleTime).
func (s *setup) settle() { s.release.Reset(settleTime) }

// stay carries the process's stdio and signals, and holds the VM, until the process has
// ended. It releases what the setup needed, because this may take long.
func (s *setup) stay(task *Task, h *holder) int {
	s.Setup = shimproto.Setup{}
	s.settle()
	if task == nil {
		return h.stay()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if h != nil {
		go func() {
			<-h.lost
			cancel()
		}()
	}
	code, err := task.Run(ctx, s.signals)
	if err != nil && h != nil {
		h.leaveNote(err)
	}
	if task.oomKilled && s.shortage != nil {
		s.shortage.tell(h)
	}
	return code
}

// listen takes the command's replies; the socket's end before the commit
// undoes everything.
func (s *setup) listen(undo context.CancelCauseFunc) {
	defer close(s.replies)
	for {
		var r shimproto.Reply
		if err := s.conn.Receive(&r); err != nil {
			undo(errUndo)
			return
		}
		s.replies <- r
		if r.Commit {
			return
		}
	}
}

// awaitHooks, if there are hooks, tells the command that they may enter this process's
// namespaces, and waits until they have run.
func (s *setup) awaitHooks(ctx context.Context) error {
	if s.Container.Hooks == nil {
		return nil
	}
	if err := s.conn.Send(shimproto.Report{Namespaced: true}); err != nil {
		return err
	}
	select {
	case r := <-s.replies:
		if r.Proceed {
			return nil
		}
		return errUndo
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *setup) committed(ctx context.Context) bool {
	defer s.conn.Close()
	select {
	case r := <-s.replies:
		return r.Commit
	case <-ctx.Done():
		return false
	}
}

// connect opens what a process in a guest needs: a connection to the agent, and
// its streams.
func connect(ctx context.Context, d agentproto.Dialer, files Files) (*agentproto.Client, *Streams, error) {
	client, err := agentproto.Connect(ctx, d)
	if err != nil {
		return nil, nil, ofVM("reach the agent", err)
	}
	streams, err := OpenStreams(ctx, d, files)
	if err != nil {
		_ = client.Close() // it was not used
		return nil, nil, &shimproto.VMError{Err: err}
	}
	return client, streams, nil
}
