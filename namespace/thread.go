// Package namespace runs code on threads that have joined other namespaces than
// the process is in.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls fn on a thread of its own and returns when fn has. fn says whether
// the thread is again as it was; one that is not ends. It is never the first
// thread of the process: that one would not end, and what it is in is what /proc
// shows of the process.
func Do(fn func() (restored bool)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // a goroutine that ends locked takes its thread with it
		restored := true
		if unix.Gettid() == unix.Getpid() {
			Do(fn) // on another: this one is held meanwhile
		} else {
			restored = fn()
		}
		if restored {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}

// Namespace is one to join, by a path such as /proc/1/ns/net and its kind, which is
// unix.CLONE_NEWNET, _NEWPID, _NEWIPC or _NEWUTS.
type Namespace struct {
	Path string
	Kind int
}

// In calls fn on a thread that has joined the namespaces, as setns(2) does it,
// and returns fn's error. With a pid namespace it is the children of fn that are in it.
func In(list []Namespace, fn func() error) error {
	if len(list) == 0 {
		return fn()
	}
	var err error
	Do(func() bool {
		var home []*os.File
		if home, err = join(list); err == nil {
			err = fn()
		}
		return leave(home) == nil
	})
	return err
}

// join moves the calling thread and gives its former namespaces, also with an
// error.
func join(list []Namespace) (home []*os.File, err error) {
	for _, ns := range list {
		to, err := os.Open(ns.Path)
		if err != nil {
			return home, fmt.Errorf("join a namespace: %w", err)
		}
		from, err := enter(to, ns.Kind)
		_ = to.Close()
		if err != nil {
			return home, err
		}
		home = append(home, from)
	}
	return home, nil
}

// enter moves the calling thread into ns, and gives its former namespace of the
// kind, which the caller closes.
func enter(ns *os.File, kind int) (home *os.File, err error) {
	home, err = os.Open(own(kind))
	if err != nil {
		return nil, fmt.Errorf("open a namespace: %w", err)
	}
	if err := setns(ns, kind); err != nil {
		_ = home.Close()
		return nil, fmt.Errorf("join the namespace %s: %w", ns.Name(), err)
	}
	return home, nil
}

// leave moves the calling thread back. From a user namespace nobody gets back to
// namespaces of the host's.
func leave(home []*os.File) error {
	var errs []error
	for _, ns := range home {
		errs = append(errs, setns(ns, 0))
		_ = ns.Close()
	}
	return errors.Join(errs...)
}

// own is the calling thread's namespace of the kind.
func own(kind int) string {
	switch kind {
	case unix.CLONE_NEWPID:
		return "/proc/thread-self/ns/pid_for_children"
	case unix.CLONE_NEWIPC:
		return "/proc/thread-self/ns/ipc"
	case unix.CLONE_NEWUTS:
		return "/proc/thread-self/ns/uts"
	default:
		return "/proc/thread-self/ns/net"
	}
}

func setns(ns *os.File, kind int) error {
	return unix.Setns(int(ns.Fd()), kind)
}
