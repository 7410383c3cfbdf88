package agent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var errWatch = errors.New("the watch of a cgroup's file ended")

// fileWatch tells of changes of one file, see inotify(7).
type fileWatch struct {
	file *os.File
	// changed gets a value for each batch of changes, and is closed when the
	// watch ends.
	changed chan struct{}
}

func watchFile(path string) (*fileWatch, error) {
	// Non-blocking, so that closing the file ends a read of it.
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	w := &fileWatch{file: os.NewFile(uintptr(fd), "inotify"), changed: make(chan struct{}, 1)}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		_ = w.file.Close()
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	go w.run()
	return w, nil
}

func (w *fileWatch) run() {
	defer close(w.changed)
	var events [unix.SizeofInotifyEvent + unix.NAME_MAX + 1]byte
	for {
		if _, err := w.file.Read(events[:]); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default: // a change is announced already; the reader looks at the file itself
		}
	}
}

func (w *fileWatch) close() { _ = w.file.Close() }
