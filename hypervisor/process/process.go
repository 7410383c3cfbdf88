// Package process starts a VMM's program with the files and the user that it is to have,
// collects its output, and tells how it ends. It depends on no particular VMM.
package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"runch/hypervisor"
	"runch/namespace"
)

// Spec says what to start.
type Spec struct {
	// VMM is the driver's name, for messages.
	VMM string
	// Args are the program's absolute path and its arguments. Process lists show Name, if
	// not empty, in place of the path.
	Args []string
	Name string
	// Dir is the working directory.
	Dir string
	// Files become the program's descriptors from 3 on.
	Files []*os.File
	// User is the user that it runs as, nil for the caller's own identity.
	User *syscall.Credential
	// Log gets what it writes to its standard output and error, line by line; nil
	// drops it.
	Log io.Writer
	// Drains read the program's other output, such as the console. Each runs in its own
	// goroutine, and returns when the process has closed its end.
	Drains []func()
}

// Process is a program that was started.
type Process struct {
	vmm      string
	cmd      *exec.Cmd
	stderr   *stderrTail
	killed   atomic.Bool
	finished atomic.Bool
	done     chan struct{}
	err      error // after done
}

// Start runs the program.
func Start(s Spec) (*Process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for %s: %w", s.VMM, err)
	}
	cmd := exec.Command(s.Args[0], s.Args[1:]...) //nolint:noctx // the configured program, which lives until it is killed
	if s.Name != "" {
		cmd.Args[0] = s.Name
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = s.Dir
	cmd.Stdout, cmd.Stderr = write, write
	cmd.ExtraFiles = s.Files
	// A process group of its own, so that a terminal's signals do not reach the VMM.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.User}
	err = namespace.OnAllCPUs(cmd.Start)
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		return nil, fmt.Errorf("start %s: %w", s.VMM, err)
	}
	p := &Process{vmm: s.VMM, cmd: cmd, stderr: &stderrTail{log: s.Log}, done: make(chan struct{})}
	go p.wait(read, s.Drains)
	return p, nil
}

// Done returns a channel that is closed when the process is gone and its output is read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended: nil for exit status 0 and after Finish,
// hypervisor.ErrKilled after Kill, else a *hypervisor.ExitError. It is valid once Done is
// closed.
func (p *Process) Err() error { return p.err }

// Failure is Err for a process that must not end: exit status 0 is a *hypervisor.ExitError
// too.
func (p *Process) Failure() error {
	if p.err != nil {
		return p.err
	}
	return &hypervisor.ExitError{VMM: p.vmm, State: p.cmd.ProcessState, StderrTail: p.stderr.lines()}
}

func (p *Process) wait(output *os.File, drains []func()) {
	defer close(p.done)
	drained := make(chan struct{})
	for _, drain := range drains {
		go func() {
			drain()
			drained <- struct{}{}
		}()
	}
	p.stderr.drain(output)
	_ = output.Close()
	err := p.cmd.Wait()
	for range drains {
		<-drained
	}
	switch {
	case p.finished.Load():
	case p.killed.Load():
		p.err = hypervisor.ErrKilled
	case err != nil:
		p.err = &hypervisor.ExitError{VMM: p.vmm, State: p.cmd.ProcessState, StderrTail: p.stderr.lines()}
	}
}

// Kill ends the process, if it has not ended yet, and waits until it is gone.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	p.killed.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Finish kills a process whose guest has ended, so that Err is nil. It does not wait.
func (p *Process) Finish() {
	p.finished.Store(true)
	_ = p.cmd.Process.Kill()
}

// endTimeout is how long a VMM may take to end after its control connection has.
const endTimeout = 2 * time.Second

// Abort kills a process whose boot failed with err, and returns the reason. If the process
// ends by itself, that is its Failure, which says more than err; otherwise it is err. With
// ending, Abort first waits a moment for such an end.
func (p *Process) Abort(ctx context.Context, err error, ending bool) error {
	if ending {
		select {
		case <-p.done:
		case <-ctx.Done():
		case <-time.After(endTimeout):
		}
	}
	select {
	case <-p.done:
		return p.Failure()
	default:
		p.Kill()
		return err
	}
}
