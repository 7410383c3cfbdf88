package sandbox

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"runch/agentproto"

	"golang.org/x/sys/unix"
)

// A guest that tells of more kills than there can have been does not cause an event for each.
func TestAGuestCannotTellOfKillsWithoutEnd(t *testing.T) {
	r := newRig(t)
	r.mustCreate(t, "c", nil)
	if err := r.Start(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	r.fail(t, "kills")
	told := 0
	err := r.Events(t.Context(), "c", time.Hour, func(e *Event) error {
		told++
		switch {
		case e.Type != "oom" || e.ID != "c":
			t.Errorf("event %+v", e)
		case told == 1:
			return r.Kill(t.Context(), "c", unix.SIGTERM, false)
		case told > maxKills:
			return errors.New("there is no end of them")
		}
		return nil
	})
	if err != nil || told == 0 {
		t.Errorf("%d events, %v", told, err)
	}
}

// hastyAgent answers at once that a process was killed, each time.
type hastyAgent struct {
	agentproto.AgentService
	asked int
}

func (a *hastyAgent) AwaitOOM(_ context.Context, r *agentproto.AwaitOOMRequest) (*agentproto.AwaitOOMResponse, error) {
	a.asked++
	return &agentproto.AwaitOOMResponse{Kills: r.GetKnown() + 1}, nil
}

func TestAGuestIsNotAskedForKillsWithoutPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// ctx ends between two calls: at the time of one, it would be left to chance whether
		// the answer is still told.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second+askInterval/2)
		defer cancel()
		kills, guest := make(chan error), new(hastyAgent)
		go func() {
			defer close(kills)
			watchKills(ctx, guest, "c", kills)
		}()
		told := 0
		for range kills {
			told++
		}
		if most := int(time.Second/askInterval) + 1; told != guest.asked || told > most || told < most/2 {
			t.Errorf("asked %d times in a second, told %d times", guest.asked, told)
		}
	})
}
