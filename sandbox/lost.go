package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"runch/agentproto"
	"runch/plaintext"
	"runch/shimproto"
	"runch/state"

	"golang.org/x/sys/unix"
)

// lostNote is the note that a holder leaves when it does not know how its container
// ended; empty where there is none.
func (s *lockedSandbox) lostNote() string {
	f, err := os.Open(filepath.Join(s.Path(), shimproto.LostNote))
	if err != nil {
		return ""
	}
	defer f.Close()
	note, err := io.ReadAll(io.LimitReader(f, tailText))
	if err != nil {
		return ""
	}
	// The text may be the guest's.
	return plaintext.Line(string(note))
}

// mayBeEnd tells whether an error may be the first sign that a sandbox or a container is
// ending. ENOMEM is what the kernel answers when a process is to be made in a pid
// namespace whose init is ending.
func mayBeEnd(err error) bool {
	return errors.Is(err, errNoReport) || errors.Is(err, agentproto.ErrUnreachable) ||
		errors.Is(err, shimproto.ErrHolderGone) || errors.Is(err, unix.ENOMEM)
}

// hasEnded tells whether a process has ended. If err may be a sign that it is ending,
// hasEnded first waits for the end, for shimproto.LostGrace at most.
func hasEnded(ctx context.Context, p state.Process, err error) bool {
	if mayBeEnd(err) {
		ctx, cancel := context.WithTimeout(ctx, shimproto.LostGrace)
		defer cancel()
		_ = p.AwaitEnd(ctx) // Alive tells below whether it ended
	}
	return !p.Alive()
}

// endedMeanwhile says why a member could not be made: ErrSandboxStopped with the reason
// if the sandbox has ended meanwhile, else err. The member's shim may fail before the
// sandbox's holder is gone.
func (s *lockedSandbox) endedMeanwhile(ctx context.Context, err error) error {
	if !hasEnded(ctx, s.record.Holder, err) {
		return err
	}
	reason := s.lostNote()
	if reason == "" {
		reason = "its holder ended"
	}
	return fmt.Errorf("%w meanwhile: %s: %s", ErrSandboxStopped, s.record.ID, reason)
}

// tellLost does nothing if it is known how the sandbox's containers ended. Otherwise it
// warns, with the reason, and keeps the logs of the VM.
func (s *lockedSandbox) tellLost() {
	reason := s.lostNote()
	if reason == "" {
		return
	}
	what, id := "container "+s.record.Owner, s.record.ID
	if s.record.Owner == "" {
		what = "the containers of the sandbox " + id
	}
	s.r.Log.Warn(fmt.Sprintf("how %s ended is not known: %s%s", what, reason, describeLogs(reason, s.record.LogDir, s.Path(), id)))
}

// withLogs returns err. If the VM is the cause, it adds where the VM's logs are kept, and
// how they end.
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
