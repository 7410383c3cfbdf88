package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"runch/plaintext"
	"runch/shimproto"
)

// tellLost shows what a holder that does not know how its container ended has left
// a note of, and keeps the logs of its VM.
func (s *lockedSandbox) tellLost() {
	f, err := os.Open(filepath.Join(s.Path(), shimproto.LostNote))
	if err != nil {
		return
	}
	defer f.Close()
	note, err := io.ReadAll(io.LimitReader(f, tailText))
	if err != nil || len(note) == 0 {
		return
	}
	// The text may be the guest's.
	reason := plaintext.Line(string(note))
	what, id := "container "+s.record.Owner, s.record.ID
	if s.record.Owner == "" {
		what = "the containers of the sandbox " + id
	}
	s.r.Log.Warn(fmt.Sprintf("how %s ended is not known: %s%s", what, reason, describeLogs(reason, s.record.LogDir, s.Path(), id)))
}

// withLogs is err, and where the VM is the cause of it, with where the logs of that are
// kept, and how they end.
func (s *lockedSandbox) withLogs(err error) error {
	var ofVM *shimproto.VMError
	if !errors.As(err, &ofVM) {
		return err
	}
	if kept := describeLogs(err.Error(), s.record.LogDir, s.Path(), s.record.ID); kept != "" {
		return fmt.Errorf("%w%s", err, kept)
	}
	return err
}
