package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"runch/agentproto"
	"runch/namespace"

	"golang.org/x/sys/unix"
)

// shimSpec says how a shim's process is made.
type shimSpec struct {
	// stdio are the files that become 0, 1 and 2; nil for /dev/null.
	stdio [3]*os.File
	// console becomes consoleFD.
	console *os.File
	// join are the namespaces it is born in: a clone(2) flag and a path.
	join []namespace.Namespace
	// unshare are clone(2) flags of the namespaces that are made for it.
	unshare uintptr
}

// shimProcess is a shim that this command has started and not yet let go.
type shimProcess struct {
	cmd     *exec.Cmd
	channel *channel
	// ended is closed when it has ended; who then wants no more of it reaps it.
	ended chan struct{}
}

// shimEnv keeps the shim small: it has one thing to do at a time. Where the kernel
// gives huge pages to those who do not ask, its heap would have more of them than
// it has memory in use.
var shimEnv = []string{
	"GOMAXPROCS=1", "GOGC=50", "GOTRACEBACK=single", "GODEBUG=disablethp=1",
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

// spawn starts a shim: this program again, leading a session of its own. It
// does nothing before it has its orders.
func spawn(s shimSpec) (*shimProcess, error) {
	ours, theirs, err := newChannelPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe", "shim") //nolint:noctx // it outlives this command
	cmd.Args[0] = "runch"
	cmd.Env = shimEnv
	cmd.Dir = "/"
	setStdio(cmd, s.stdio)
	cmd.ExtraFiles = []*os.File{theirs}
	if s.console != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, s.console)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: s.unshare}
	err = namespace.In(s.join, func() error { return onAllCPUs(cmd.Start) })
	if err != nil {
		ours.close()
		return nil, fmt.Errorf("start the shim: %w", err)
	}
	p := &shimProcess{cmd: cmd, channel: ours, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		awaitZombie(p.pid())
	}()
	return p, nil
}

// awaitZombie returns when a child has ended, and leaves it to be reaped: one
// that was handed over is the caller's, also when it ends before this command.
func awaitZombie(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func setStdio(cmd *exec.Cmd, stdio [3]*os.File) {
	if stdio[0] != nil {
		cmd.Stdin = stdio[0]
	}
	if stdio[1] != nil {
		cmd.Stdout = stdio[1]
	}
	if stdio[2] != nil {
		cmd.Stderr = stdio[2]
	}
}

func (p *shimProcess) pid() int { return p.cmd.Process.Pid }

// undo ends the shim and what it has made, and returns when it is gone.
func (p *shimProcess) undo() {
	p.channel.close()
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.cmd.Wait() // how it ended is our doing
}

// await hears the shim's last report, until ctx ends.
func (p *shimProcess) await(ctx context.Context) (*readyReport, error) {
	r, err := p.hear(ctx)
	if err != nil {
		return nil, err
	}
	if r.Ready == nil {
		return nil, errors.New("the shim's report is empty")
	}
	return r.Ready, nil
}

// errWordless is what is known of a shim that ended before it reported.
var errWordless = errors.New("the shim ended without a word")

// unreachable is a shim's report that its guest does not answer.
type unreachable string

func (u unreachable) Error() string { return string(u) }

func (unreachable) Is(target error) bool { return target == agentproto.ErrUnreachable }

// hear takes the shim's next report, until ctx ends.
func (p *shimProcess) hear(ctx context.Context) (*report, error) {
	stop := context.AfterFunc(ctx, func() { _ = p.channel.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var r report
	if err := p.channel.receive(&r); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for the shim: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("%w (killed, or out of memory): %w", errWordless, err)
	}
	switch {
	case r.Unreachable:
		return nil, unreachable(r.Error)
	case r.Error != "":
		return nil, errors.New(r.Error)
	}
	return &r, nil
}

// exitCode waits for the shim's end: the process's own exit code.
func (p *shimProcess) exitCode() int {
	<-p.ended
	_ = p.cmd.Wait() // the state says it all
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}
