package sandbox

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"runch/state"
)

// TestLostContainersAreTold: what a shim notes of an end that it does not know
// is what delete says, with the guest's last words; of others it says nothing.
func TestLostContainersAreTold(t *testing.T) {
	dir, logs := t.TempDir(), t.TempDir()
	var said strings.Builder
	r := &Runtime{Log: slog.New(slog.NewTextHandler(&said, nil))}
	c := &state.Container{ID: "c", LogDir: logs}
	r.tellLost(dir, c) // a VM that was never started
	note, err := newLostNote(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer note.Close()
	if err := os.WriteFile(filepath.Join(dir, consoleLog), []byte("[1.0] last words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.tellLost(dir, c)
	if said.Len() != 0 {
		t.Errorf("of a container that ended in order: %s", &said)
	}

	g := &guest{note: note, lost: make(chan struct{})}
	g.leaveNote(errors.New("wait for the process: \x1b[2Jclosed"))
	r.tellLost(dir, c)
	for _, want := range []string{"how container c ended is not known: wait for the process: [2Jclosed", "last words", logs} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no %q in %s", want, &said)
		}
	}
	if kept, err := os.ReadDir(logs); err != nil || len(kept) != 1 {
		t.Errorf("kept %v, %v", kept, err)
	}
}
