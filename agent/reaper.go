package agent

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper waits for the children that PID 1 inherits. The children that
// libcontainer waits for itself are left to it: while one is being started
// nothing is reaped at all, since its pid is not known yet, and afterwards its
// pid is known. It is safe for concurrent use.
type reaper struct {
	kick chan struct{}

	mu       sync.Mutex
	starting int
	tracked  map[int]struct{}
}

func newReaper() *reaper {
	return &reaper{kick: make(chan struct{}, 1), tracked: make(map[int]struct{})}
}

// begin announces that children will be made and waited for by the caller. Each
// begin needs one end.
func (r *reaper) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting++
}

// end says that the caller has waited for those children, except for pid: for that
// one, untrack says so later. 0 means no exception.
func (r *reaper) end(pid int) {
	r.mu.Lock()
	r.starting--
	if pid > 0 {
		r.tracked[pid] = struct{}{}
	}
	r.mu.Unlock()
	r.wake()
}

// untrack says that pid has been waited for.
func (r *reaper) untrack(pid int) {
	r.mu.Lock()
	delete(r.tracked, pid)
	r.mu.Unlock()
	r.wake()
}

func (r *reaper) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// run reaps until ctx ends. It also takes the signals that would end PID 1, and
// the VM with it: a container that shares the guest's pid namespace may send them.
func (r *reaper) run(ctx context.Context) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	defer signal.Stop(signals)
	for {
		for r.reapOne() {
		}
		select {
		case <-ctx.Done():
			return
		case <-signals:
		case <-r.kick:
		}
	}
}

// reapOne waits for one child that has ended, and reports whether there may be another. It stops
// at a tracked one: whoever waits for that child wakes the reaper again.
func (r *reaper) reapOne() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.starting > 0 {
		return false
	}
	pid, err := peekChild()
	if err != nil || pid == 0 {
		return false
	}
	if _, ok := r.tracked[pid]; ok {
		return false
	}
	for {
		_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}
