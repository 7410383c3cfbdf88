package shim

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"runch/agentproto"
)

// clockAgent is a guest whose clock differs from the host's, and is adjusted.
type clockAgent struct {
	agentproto.AgentService
	ahead    time.Duration
	slow     time.Duration
	adjusted []time.Duration
}

func (a *clockAgent) AdjustClock(_ context.Context, r *agentproto.AdjustClockRequest) (*agentproto.AdjustClockResponse, error) {
	<-time.After(a.slow)
	if by := time.Duration(r.GetByNs()); by != 0 {
		a.adjusted = append(a.adjusted, by)
		a.ahead += by
	}
	return &agentproto.AdjustClockResponse{TimeNs: time.Now().Add(a.ahead).UnixNano()}, nil
}

func TestAdjustClock(t *testing.T) {
	for _, c := range []struct {
		ahead, slow time.Duration
		adjusted    bool
	}{
		{0, 0, false},
		{time.Hour, 0, true},
		{-time.Hour, 0, true},
		{-24 * 365 * time.Hour, 0, true},
		{20 * time.Millisecond, 50 * time.Millisecond, false}, // the call took longer than the difference
	} {
		a := &clockAgent{ahead: c.ahead, slow: c.slow}
		if err := adjustClock(t.Context(), a); err != nil {
			t.Error(err)
		}
		if (len(a.adjusted) == 1) != c.adjusted || len(a.adjusted) > 1 {
			t.Errorf("ahead by %v, in %v: adjusted by %v", c.ahead, c.slow, a.adjusted)
		}
		if c.adjusted && a.ahead.Abs() > time.Minute {
			t.Errorf("ahead by %v: it is by %v now", c.ahead, a.ahead)
		}
	}
}

// wait returns when the timer's time has come, and when its file is closed.
func TestClockTimer(t *testing.T) {
	timer, err := newClockTimer()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- timer.wait() }()
	select {
	case err := <-ended:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := errors.Join(timer.set(time.Millisecond), <-ended, timer.set(time.Hour)); err != nil {
		t.Error(err)
	}
	go func() { ended <- timer.wait() }()
	if err := timer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
}
