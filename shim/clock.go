package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"runch/agentproto"

	"golang.org/x/sys/unix"
)

const (
	// clockInterval is how long a guest's clock runs by itself. It follows the host's
	// oscillator without the corrections of NTP, which are some 20 to 200 ms in an hour.
	clockInterval = time.Hour
	// clockRetry is when a guest that did not answer is asked again.
	clockRetry = time.Minute
	// clockSlack is by how much the clocks may differ.
	clockSlack = 10 * time.Millisecond
	// clockTimeout bounds one comparison.
	clockTimeout = 10 * time.Second
)

// keepTime adjusts the guest's clock to the host's, as long as the process lives: every
// clockInterval, and at once when the host's clock was set or the host has slept. After an
// error of the timer the guest's clock runs by itself.
func (h *holder) keepTime(ctx context.Context) {
	timer, err := newClockTimer()
	if err != nil {
		return
	}
	defer timer.Close()
	for timer.wait() == nil {
		// Set the timer before the comparison: it then reports a change of the host's clock
		// during that too.
		err := timer.set(clockInterval)
		if err == nil && h.syncClock(ctx) != nil {
			err = timer.set(clockRetry)
		}
		h.settle()
		if err != nil {
			return
		}
	}
}

// syncClock compares the clocks once.
func (h *holder) syncClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	agent, err := agentproto.Connect(ctx, h.vm)
	if err != nil {
		return err
	}
	defer agent.Close()
	return adjustClock(ctx, agent)
}

// adjustClock asks the guest for its time and corrects it. The answer may be off by as
// much as the call took, so a difference smaller than that is not corrected.
func adjustClock(ctx context.Context, agent agentproto.AgentService) error {
	asked := time.Now()
	now, err := agent.AdjustClock(ctx, &agentproto.AdjustClockRequest{})
	if err != nil {
		return fmt.Errorf("ask for the guest's time: %w", agentproto.FromAgent(err))
	}
	took := time.Since(asked)
	behind := time.Duration(asked.Add(took/2).UnixNano() - now.GetTimeNs())
	if behind.Abs() <= max(took, clockSlack) {
		return nil
	}
	_, err = agent.AdjustClock(ctx, &agentproto.AdjustClockRequest{ByNs: int64(behind)})
	return agentproto.FromAgent(err)
}

// clockTimer is a timer of the wall clock, see timerfd_create(2).
type clockTimer struct{ *os.File }

func newClockTimer() (*clockTimer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	t := &clockTimer{os.NewFile(uintptr(fd), "timer")} // #nosec G115 -- a descriptor
	if err := t.set(clockInterval); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// set has the timer end after that time, or as soon as the clock is set.
func (t *clockTimer) set(after time.Duration) error {
	raw, err := t.SyscallConn()
	if err != nil {
		return fmt.Errorf("set a timer: %w", err)
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(time.Now().Add(after).UnixNano())}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &at, nil)
	})
	if err := errors.Join(err, set); err != nil {
		return fmt.Errorf("set a timer: %w", err)
	}
	return nil
}

// wait returns when the timer has ended.
func (t *clockTimer) wait() error {
	if _, err := t.Read(make([]byte, 8)); err != nil && !errors.Is(err, unix.ECANCELED) {
		return fmt.Errorf("wait for a timer: %w", err)
	}
	return nil
}
