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

// pod is what a holder knows of the members of its pod, except its own container.
//
// No command reports the end of a pod that has no container of its own. Such a pod has
// ended when no member lives and the file that pinned its network namespace is gone:
// without that file no more members can come.
type pod struct {
	// done is closed when a pod without a container of its own has ended.
	done chan struct{}

	mu sync.Mutex
	// members is the number of members that live.
	members int
	// lasts says that the pod goes on without members: this process is the shim of the
	// pod's own container, or the file is there.
	lasts bool
	// terminating says that this process's own container is to get SIGTERM when no
	// member lives.
	terminating bool
}

// errPodEnded says that a member comes too late.
var errPodEnded = errors.New("the pod has ended")

// errNoMembers says that the pod's own container can be signalled at once.
var errNoMembers = errors.New("no member of the pod lives")

// watchPod watches the file at pinned; this process may lose sight of that path later.
// A path that no caller has pinned (empty, or a process's in /proc) keeps no pod alive.
// When the file cannot be watched, because the kernel limits a user's inotify instances
// (fs.inotify.max_user_instances), the pod ends with its last delete.
func watchPod(pinned string) *pod {
	p := &pod{done: make(chan struct{})}
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(filepath.Dir(pinned))
	}
	// The watcher comes first, so that it does not miss the file's removal.
	at, statErr := os.Lstat(pinned)
	p.lasts = statErr == nil && at.Mode().IsRegular()
	if p.lasts && err == nil {
		go p.awaitEnd(watcher, filepath.Base(pinned))
	} else if watcher != nil {
		_ = watcher.Close() // there is nothing to watch
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
			// The kernel may have dropped events. If the file's removal was among them, the
			// pod ends with its last delete.
			if !ok {
				return
			}
		}
	}
}

// change adds to the number of members. lasts is false when the pod goes on only as
// long as it has members from now on.
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
// The error is errNoMembers when no member lives now.
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

// stay holds the VM until the VM or the pod has ended, and returns the exit code.
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
		// The member sends nothing: Read returns when its shim ends.
		_, _ = conn.Read(make([]byte, 1))
		p.change(-1, true)
	}()
	return nil
}
