// Package namespace runs code on threads that differ from the others of the process:
// in the namespaces that they have joined, or in the CPUs that they may run on.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls fn on an operating system thread that nothing else uses, and returns when
// fn does. fn reports whether it has restored the thread; Do ends a thread that is
// not restored. It never uses the first thread of the process, which the Go runtime
// does not end, and whose namespaces /proc shows as those of the process.
func Do(fn func() (restored bool)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread of a goroutine that ends locked ends too
		restored := true
		if unix.Gettid() == unix.Getpid() {
			Do(fn) // on another thread, as this one stays locked
		} else {
			restored = fn()
		}
		if restored {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}

// Namespace is a namespace to join. Path is one such as /proc/1/ns/net, Kind is
// unix.CLONE_NEWNET, _NEWPID, _NEWIPC or _NEWUTS.
type Namespace struct {
	Path string
	Kind int
}

// In calls fn on a thread that has joined the namespaces with setns(2), and returns
// fn's error. Of a pid namespace only processes that fn starts become members.
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

// join moves the calling thread into the namespaces and returns the former ones,
// also with an error.
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

// enter moves the calling thread into ns and returns its former namespace of that
// kind, which the caller closes.
func enter(ns *os.File, kind int) (home *os.File, err error) {
	home, err = os.Open(currentPath(kind))
	if err != nil {
		return nil, fmt.Errorf("open a namespace: %w", err)
	}
	if err := setns(ns, kind); err != nil {
		_ = home.Close()
		return nil, fmt.Errorf("join the namespace %s: %w", ns.Name(), err)
	}
	return home, nil
}

// leave moves the calling thread back. In a user namespace that fails if the former
// namespace is one of the host's.
func leave(home []*os.File) error {
	var errs []error
	for _, ns := range home {
		errs = append(errs, setns(ns, 0))
		_ = ns.Close()
	}
	return errors.Join(errs...)
}

// currentPath is the path of the calling thread's namespace of the kind.
func currentPath(kind int) string {
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
