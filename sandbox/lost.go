package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"runch/state"
)

// A shim that does not know how its container ended has nobody to tell why: it
// leaves a note in the sandbox's directory, which delete shows.
const (
	lostNote = "lost"
	// lostGrace is how long a connection to the guest may be gone before its VM is:
	// a VMM that was killed closes its files, and then has the guest's memory to give back.
	lostGrace = time.Second
)

// newLostNote makes the note, which is empty for as long as all is well.
func newLostNote(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lostNote), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the sandbox's note: %w", err)
	}
	return f, nil
}

// leaveNote writes why the container's end is not known: the end of its VM, or
// else what the shim met.
func (g *guest) leaveNote(met error) {
	reason := met
	select {
	case <-g.lost:
		reason = g.lostReason()
	case <-time.After(lostGrace):
	}
	_, _ = io.WriteString(g.note, reason.Error()) // there is nobody to tell
}

// tellLost shows what the note of a container's shim says, and keeps what its
// VM has said last.
func (r *Runtime) tellLost(dir string, c *state.Container) {
	f, err := os.Open(filepath.Join(dir, lostNote))
	if err != nil {
		return
	}
	defer f.Close()
	note, err := io.ReadAll(io.LimitReader(f, lastBytes))
	if err != nil || len(note) == 0 {
		return
	}
	// The words may be the guest's.
	reason := strings.Map(plainRune, string(note))
	r.Log.Warn(fmt.Sprintf("how container %s ended is not known: %s%s", c.ID, reason, keptWords(reason, c.LogDir, dir, c.ID)))
}
