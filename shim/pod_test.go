package shim

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// The kernel drops inotify events when there are too many, and fsnotify reports an error.
func TestAPodsFileIsWatchedAfterAnError(t *testing.T) {
	pinned := filepath.Join(t.TempDir(), "netns")
	if err := os.WriteFile(pinned, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	if err := watcher.Add(filepath.Dir(pinned)); err != nil {
		t.Fatal(err)
	}
	p := &pod{done: make(chan struct{}), lasts: true}
	go p.awaitEnd(watcher, filepath.Base(pinned))
	select {
	case watcher.Errors <- errors.New("overflow"):
	case <-time.After(time.Minute):
		t.Fatal("nobody reads the errors, and no event comes after one")
	}
	if err := os.Remove(pinned); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Error("the file's end is not seen")
	}
}
