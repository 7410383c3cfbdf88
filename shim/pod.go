package shim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"runch/shimproto"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// pod is what a holder knows of the members of its pod, its own container aside.
//
// Where the sandbox belongs to no container, nobody says when the pod has ended: no
// member lives any more, and the file that pinned the pod's network namespace, by which
// more members could come, is gone.
type pod struct {
	// done is closed when a pod has ended that has no container of its own.
	done chan struct{}

	mu sync.Mutex
	// members counts those that live.
	members int
	// lasts says that the pod has not ended without members: its own container is in
	// this process, or the file is there.
	lasts bool
	// terminating says that this process's own container is to get SIGTERM when no
	// member lives.
	terminating bool
}

// errPodEnded says that a member comes too late.
var errPodEnded = errors.New("the pod has ended")

// errNoMembers says that a pod's own container can be told to end at once.
var errNoMembers = errors.New("no member of the pod lives")

// watchPod watches the file at pinned, which this process need not be able to see
// later. A path that no caller has pinned, of a process or empty, keeps no pod alive.
// Where it cannot be watched, as the kernel bounds a user's watchers
// (fs.inotify.max_user_instances), the pod ends with its last delete.
func watchPod(pinned string) *pod {
	p := &pod{done: make(chan struct{})}
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(filepath.Dir(pinned))
	}
	// The watcher comes first: so the file's end is not missed.
	at, statErr := os.Lstat(pinned)
	p.lasts = statErr == nil && at.Mode().IsRegular()
	if p.lasts && err == nil {
		go p.awaitEnd(watcher, filepath.Base(pinned))
	} else if watcher != nil {
		_ = watcher.Close() // it has no watch that is needed
	}
	return p
}

// awaitEnd returns when the file of this name is gone.
func (p *pod) awaitEnd(watcher *fsnotify.Watcher, name string) {
	defer watcher.Close()
	for {
		select {
		case event, ok := <-watcher.Events:
			if !ok {
				return
			}
			if filepath.Base(event.Name) == name && (event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename)) {
				p.change(0, false)
				return
			}
		case _, ok := <-watcher.Errors:
			// As when the kernel has dropped events. If that of the file's end was one of
			// them, the pod ends with its last delete.
			if !ok {
				return
			}
		}
	}
}

// change counts members that have come (1) or gone (-1), and notes with false that
// nothing but these keeps the pod any more.
func (p *pod) change(members int, lasts bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members += members
	p.lasts = p.lasts && lasts
	if p.members > 0 {
		return
	}
	if p.terminating {
		p.terminating = false
		_ = unix.Kill(unix.Getpid(), unix.SIGTERM) // which it passes on to its container
	}
	if !p.lasts && !p.ended() {
		close(p.done)
	}
}

// terminate has this process's own container get SIGTERM when no member lives any more.
// The error is errNoMembers where none does.
func (p *pod) terminate() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.members == 0 {
		return errNoMembers
	}
	p.terminating = true
	return nil
}

func (p *pod) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stay holds the VM until that or the pod has ended, and gives the exit code.
func (h *holder) stay() int {
	select {
	case <-h.lost:
		h.leaveNote(errVMLost)
		return shimproto.ExitLost
	case <-h.pod.done:
		return 0
	}
}

// attend counts a member for as long as its shim keeps the connection.
func (p *pod) attend(conn *net.UnixConn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended() {
		return errPodEnded
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("wait for a member's end: %w", err)
	}
	p.members++
	go func() {
		defer conn.Close()
		// It has nothing to say: this ends with it.
		_, _ = conn.Read(make([]byte, 1))
		p.change(-1, true)
	}()
	return nil
}
