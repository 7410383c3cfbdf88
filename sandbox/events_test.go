package sandbox

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A guest that has counted more kills than there can have been is not believed each.
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
