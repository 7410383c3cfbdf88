package sandbox

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"runch/agentproto"
	"runch/shimproto"
	"runch/state"

	"golang.org/x/sys/unix"
)

// TestLostContainersAreTold: if a holder does not know how its container ended, delete
// says what the holder has noted, with the end of the guest's console. Of other containers
// it says nothing.
func TestLostContainersAreTold(t *testing.T) {
	logs := t.TempDir()
	var said strings.Builder
	store := state.NewStore(t.TempDir())
	dir, err := store.NewSandbox(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s := &lockedSandbox{
		SandboxDir: dir, r: &Runtime{Log: slog.New(slog.NewTextHandler(&said, nil))},
		record: &state.Sandbox{ID: "c", Owner: "c", LogDir: logs},
	}
	s.tellLost() // a VM that was never started
	note := filepath.Join(dir.Path(), shimproto.LostNote)
	for path, text := range map[string]string{note: "", filepath.Join(dir.Path(), shimproto.ConsoleLog): "[1.0] the last line\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.tellLost()
	if said.Len() != 0 {
		t.Errorf("of a container that ended in order: %s", &said)
	}
	if err := os.WriteFile(note, []byte("wait for the process: \x1b[2Jclosed"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.tellLost()
	for _, want := range []string{"how container c ended is not known: wait for the process: ?[2Jclosed", "the last line", logs} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no %q in %s", want, &said)
		}
	}
	if kept, err := os.ReadDir(logs); err != nil || len(kept) != 1 {
		t.Errorf("kept %v, %v", kept, err)
	}
}

// TestErrorsThatMayBeAnEnd: an error that may be the first sign of a sandbox's end is told
// only after a wait for that end; no other error waits.
func TestErrorsThatMayBeAnEnd(t *testing.T) {
	reported := func(err error) error {
		r := shimproto.Failed(fmt.Errorf("share the files: %w", err))
		return r.Err()
	}
	for _, err := range []error{
		errNoReport, agentproto.ErrUnreachable, reported(agentproto.ErrUnreachable), shimproto.ErrHolderGone,
		reported(shimproto.ErrHolderGone), &os.PathError{Op: "fork/exec", Path: "/proc/self/exe", Err: unix.ENOMEM},
	} {
		if !mayBeEnd(err) {
			t.Errorf("%v is not waited with", err)
		}
	}
	if err := reported(os.ErrPermission); mayBeEnd(err) {
		t.Errorf("%v is waited with", err)
	}
}
