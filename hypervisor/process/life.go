package process

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"runch/hypervisor"
)

// Life is that of a VMM: it is prepared, started once, and closed for good. Its
// methods may be called by several goroutines.
type Life struct {
	mu      sync.Mutex
	process *Process
	began   chan struct{} // closed when process is set or never will be
	booted  bool
	closed  bool
}

// NewLife is that of a VMM that was not started.
func NewLife() *Life { return &Life{began: make(chan struct{})} }

// errNoListen says that a call came after Boot.
var errNoListen = fmt.Errorf("listen for the guest: %w: Boot was called", hypervisor.ErrState)

// Prepare calls do unless the VMM was started or closed, which does not happen
// meanwhile either.
func (l *Life) Prepare(do func() error) error {
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

// Begin has start start the process, once. Close waits for it.
func (l *Life) Begin(start func() (*Process, error)) (*Process, error) {
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

// Process waits until the process was started and gives it; nil when it was
// closed before, or did not start.
func (l *Life) Process() *Process {
	<-l.began
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.process
}

// Wait returns when the process has ended, and says how: see (*Process).Err.
func (l *Life) Wait() error {
	p := l.Process()
	if p == nil {
		return hypervisor.ErrClosed
	}
	<-p.Done()
	return p.Err()
}

// Close ends the process and returns when it is gone. It may be called again.
func (l *Life) Close() {
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

// endTimeout is how long a VMM may live on after its control connection has ended.
const endTimeout = 2 * time.Second

// Abort ends a process whose boot failed with err, and gives the reason. Where
// its own end may be near, that is waited for a little: it says more.
func (p *Process) Abort(ctx context.Context, err error, near bool) error {
	if near {
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

// DrainConsole reads a guest's console to its end, whatever the writer answers;
// nil drops it. A console that nobody reads stops the guest's kernel.
func DrainConsole(console io.Reader, to io.Writer) {
	buf := make([]byte, 4096)
	for {
		n, err := console.Read(buf)
		if n > 0 && to != nil {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}
