package qemu

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

// process is a QEMU that was started.
type process struct {
	cmd    *exec.Cmd
	words  *words
	killed atomic.Bool
	done   chan struct{} // closed when it is gone and all it wrote is read
	err    error         // after done: what Wait answers
}

// start runs the program. drains are run besides until the process has closed
// its ends; done waits for them.
func start(program string, args []string, files []*os.File, user *syscall.Credential, log io.Writer, drains ...func()) (*process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for QEMU: %w", err)
	}
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // the configured program, which lives until kill
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = write, write
	cmd.ExtraFiles = files
	// A group of its own: what a terminal sends to ours is not for the VM.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: user}
	err = startOnAllCPUs(cmd)
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	p := &process{cmd: cmd, words: &words{log: log}, done: make(chan struct{})}
	go p.wait(read, drains)
	return p, nil
}

func (p *process) wait(stderr *os.File, drains []func()) {
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
	case p.killed.Load():
		p.err = hypervisor.ErrKilled
	case err != nil:
		p.err = &hypervisor.ExitError{VMM: "QEMU", State: p.cmd.ProcessState, LastWords: p.words.lines()}
	}
}

// kill ends the process, if it has not ended yet, and waits until it is gone.
func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	p.killed.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
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
		return err //nolint:wrapcheck // the caller names the program
	}
	runtime.UnlockOSThread()
	return err //nolint:wrapcheck // the caller names the program
}
