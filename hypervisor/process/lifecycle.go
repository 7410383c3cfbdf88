package process

import (
	"fmt"
	"sync"

	"runch/hypervisor"
)

// Lifecycle keeps the state of a VMM process: prepared, started at most once, closed for
// good. Its methods may be called by several goroutines.
type Lifecycle struct {
	mu      sync.Mutex
	process *Process
	began   chan struct{} // closed when process is set or never will be
	booted  bool
	closed  bool
}

// NewLifecycle returns the Lifecycle of a process that was not started yet.
func NewLifecycle() *Lifecycle { return &Lifecycle{began: make(chan struct{})} }

// errNoListen says that a call came after Boot.
var errNoListen = fmt.Errorf("listen for the guest: %w: Boot was called", hypervisor.ErrState)

// Prepare calls do, unless the process was started (hypervisor.ErrState) or the Lifecycle is
// closed (hypervisor.ErrClosed). Neither can happen while do runs.
func (l *Lifecycle) Prepare(do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return hypervisor.ErrClosed
	case l.booted:
		return errNoListen
	}
	return do()
}

// Begin calls start, which starts the process. A second call is hypervisor.ErrState, and
// after Close it is hypervisor.ErrClosed. Close waits while start runs.
func (l *Lifecycle) Begin(start func() (*Process, error)) (*Process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, hypervisor.ErrClosed
	case l.booted:
		return nil, fmt.Errorf("%w: it was called before", hypervisor.ErrState)
	}
	l.booted = true
	defer close(l.began)
	p, err := start()
	if err != nil {
		return nil, err
	}
	l.process = p
	return p, nil
}

// Process waits until the process was started and gives it: nil when Close came
// first, or start failed.
func (l *Lifecycle) Process() *Process {
	<-l.began
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.process
}

// Wait waits until the process has ended, and returns its Err. It returns
// hypervisor.ErrClosed if the process was never started.
func (l *Lifecycle) Wait() error {
	p := l.Process()
	if p == nil {
		return hypervisor.ErrClosed
	}
	<-p.Done()
	return p.Err()
}

// Close kills the process and returns when it is gone. It may be called again.
func (l *Lifecycle) Close() {
	l.mu.Lock()
	p := l.process
	if !l.closed {
		l.closed = true
		if !l.booted {
			close(l.began)
		}
	}
	l.mu.Unlock()
	if p != nil {
		p.Kill()
	}
}
