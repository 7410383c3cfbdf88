package vmmtest

import (
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

// leaks has the descriptors and goroutines that exist before a test.
type leaks struct {
	fds        []string
	goroutines int
}

func countLeaks(t *testing.T) *leaks {
	t.Helper()
	return &leaks{fds: openFiles(t), goroutines: runtime.NumGoroutine()}
}

// settle is how long descriptors and goroutines may take to go after the test's end.
const settle = 5 * time.Second

// check fails the test if there are more descriptors or goroutines than before.
func (l *leaks) check(t *testing.T) {
	t.Helper()
	var fds []string
	var goroutines int
	for deadline := time.Now().Add(settle); ; {
		fds, goroutines = openFiles(t), runtime.NumGoroutine()
		if len(fds) <= len(l.fds) && goroutines <= l.goroutines {
			return
		}
		if time.Now().After(deadline) {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if len(fds) > len(l.fds) {
		t.Errorf("%d descriptors before, %d after:\n%q\n%q", len(l.fds), len(fds), l.fds, fds)
	}
	if goroutines > l.goroutines {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", l.goroutines, goroutines, stacks[:runtime.Stack(stacks, true)])
	}
}

// openFiles returns the names of this process's open files, except those of Go's poller.
func openFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" {
			files = append(files, target)
		}
	}
	slices.Sort(files)
	return files
}
