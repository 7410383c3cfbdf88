package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// clockSlack is how far the guest's clock may be ahead of the time that the
// host gives: the request was on its way for a while. A clock that is behind is always set.
const clockSlack = 250 * time.Millisecond

// sinceBoot reads the guest's boot clock, in nanoseconds.
func sinceBoot() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano()) // #nosec G115 -- the boot clock is never negative
}

// setClock sets the guest's wall clock to the host's, given in nanoseconds
// since the epoch. 0 means that the host said nothing.
func setClock(hostNS int64) error {
	if hostNS == 0 {
		return nil
	}
	if hostNS < 0 {
		return invalidf("host_time_ns: %d is before the epoch", hostNS)
	}
	if ahead := time.Duration(time.Now().UnixNano() - hostNS); ahead >= 0 && ahead <= clockSlack {
		return nil
	}
	ts := unix.NsecToTimespec(hostNS)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// maxSlew is the largest difference for which the clock is slewed instead of set, so
// that programs do not see it jump or go back.
const maxSlew = 500 * time.Millisecond

// AdjustClock moves the wall clock. Up to maxSlew it lets the clock run slower or faster
// by 500 µs in a second (adjtime(3)); beyond that it sets the clock.
func (a *Agent) AdjustClock(_ context.Context, req *agentproto.AdjustClockRequest) (*agentproto.AdjustClockResponse, error) {
	by := time.Duration(req.GetByNs())
	to := time.Now().Add(by).UnixNano()
	if to < 0 || by < 0 && -by < 0 {
		return nil, invalidf("by_ns: %d is before the epoch", req.GetByNs())
	}
	var err error
	switch {
	case by == 0:
	case by.Abs() <= maxSlew:
		_, err = unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: by.Microseconds()})
	default:
		ts := unix.NsecToTimespec(to)
		err = unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
	}
	if err != nil {
		return nil, fmt.Errorf("adjust the clock: %w", err)
	}
	return &agentproto.AdjustClockResponse{TimeNs: time.Now().UnixNano()}, nil
}

// timeline collects the moments of starting.
type timeline struct {
	mu sync.Mutex
	t  agentproto.Timeline
}

// mark writes the present moment into the field that f picks, if it is the first time.
func (t *timeline) mark(f func(*agentproto.Timeline) *uint64) {
	now := sinceBoot()
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := f(&t.t); *p == 0 {
		*p = now
	}
}

// snapshot gives a copy to send.
func (t *timeline) snapshot() *agentproto.Timeline {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &agentproto.Timeline{
		AgentStartNs:       t.t.GetAgentStartNs(),
		ModulesLoadedNs:    t.t.GetModulesLoadedNs(),
		HelloNs:            t.t.GetHelloNs(),
		ContainerCreatedNs: t.t.GetContainerCreatedNs(),
		ContainerStartedNs: t.t.GetContainerStartedNs(),
	}
}
