// Package process starts a VMM's program and looks after it: what it inherits,
// whom it runs as, what it says last, and how it ends. It knows no VMM.
package process

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"runch/hypervisor"
)

// Spec says what to start.
type Spec struct {
	// VMM is the driver's name, for messages.
	VMM string
	// Args are the program's absolute path and its arguments; Name, where not
	// empty, is what process lists show for the path.
	Args []string
	Name string
	// Dir is the working directory.
	Dir string
	// Files become the descriptors from FirstFile on.
	Files []*os.File
	// User is whom it runs as, nil for the caller's own identity.
	User *syscall.Credential
	// Log gets its words, line by line; nil drops them.
	Log io.Writer
	// Drains are run besides until the process has closed its ends.
	Drains []func()
}

// Process is a program that was started.
type Process struct {
	vmm    string
	cmd    *exec.Cmd
	words  *words
	killed atomic.Bool
	wanted atomic.Bool
	done   chan struct{}
	err    error // after done
}

// Start runs the program.
func Start(s Spec) (*Process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for %s: %w", s.VMM, err)
	}
	cmd := exec.Command(s.Args[0], s.Args[1:]...) //nolint:gosec,noctx // the configured program, which lives until it is killed
	if s.Name != "" {
		cmd.Args[0] = s.Name
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = s.Dir
	cmd.Stdout, cmd.Stderr = write, write
	cmd.ExtraFiles = s.Files
	// A group of its own: what a terminal sends to ours is not for the VM.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.User}
	err = startOnAllCPUs(cmd)
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		return nil, fmt.Errorf("start %s: %w", s.VMM, err)
	}
	p := &Process{vmm: s.VMM, cmd: cmd, words: &words{log: s.Log}, done: make(chan struct{})}
	go p.wait(read, s.Drains)
	return p, nil
}

// Done is closed when the process is gone and all that it wrote is read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how it ended, only after Done: nil for exit status 0 and after End,
// hypervisor.ErrKilled after Kill, else an *hypervisor.ExitError.
func (p *Process) Err() error { return p.err }

// Failure says how it ended where that is an error whatever its status was.
func (p *Process) Failure() error {
	if p.err != nil {
		return p.err
	}
	return &hypervisor.ExitError{VMM: p.vmm, State: p.cmd.ProcessState, LastWords: p.words.lines()}
}

func (p *Process) wait(stderr *os.File, drains []func()) {
	defer close(p.done)
	finished := make(chan struct{})
	for _, drain := range drains {
		go func() {
			drain()
			finished <- struct{}{}
		}()
	}
	p.words.drain(stderr)
	_ = stderr.Close()
	err := p.cmd.Wait()
	for range drains {
		<-finished
	}
	switch {
	case p.wanted.Load():
	case p.killed.Load():
		p.err = hypervisor.ErrKilled
	case err != nil:
		p.err = &hypervisor.ExitError{VMM: p.vmm, State: p.cmd.ProcessState, LastWords: p.words.lines()}
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

// End kills a process whose guest has ended, which is no error. It waits for
// nothing.
func (p *Process) End() {
	p.wanted.Store(true)
	_ = p.cmd.Process.Kill()
}

// maxCPUSet is how many CPUs unix.CPUSet can name.
const maxCPUSet = 1024

// startOnAllCPUs starts the command without the affinity that this process was
// given: the kernel then keeps it to the CPUs of its cgroup, as runc does with
// what it starts. A child inherits the affinity of the thread that forks.
func startOnAllCPUs(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	var own, all unix.CPUSet
	if unix.SchedGetaffinity(0, &own) == nil {
		for cpu := range maxCPUSet {
			all.Set(cpu)
		}
		_ = unix.SchedSetaffinity(0, &all)
	}
	err := cmd.Start()
	if own.Count() > 0 && unix.SchedSetaffinity(0, &own) != nil {
		// A thread that cannot be put back ends with its goroutine, not before.
		return err
	}
	runtime.UnlockOSThread()
	return err
}
