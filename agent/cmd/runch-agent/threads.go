package main

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads a container's init makes for later.
const spareThreads = 6

// makeSpareThreads has the Go runtime make threads, which it keeps. The init of a
// container lives under the container's own limits at its end: where RLIMIT_AS
// is less than what the runtime has reserved, it could make none, and would die.
func makeSpareThreads(n int) {
	var made, done sync.WaitGroup
	release := make(chan struct{})
	made.Add(n)
	for range n {
		done.Go(func() {
			runtime.LockOSThread() // so that each needs a thread of its own
			defer runtime.UnlockOSThread()
			made.Done()
			<-release
		})
	}
	made.Wait()
	close(release)
	done.Wait()
}
