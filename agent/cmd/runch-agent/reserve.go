package main

import (
	"runtime"
	"sync"
)

// The init of a container gets the container's limits before it executes the program. If
// RLIMIT_AS is less than the address space that the Go runtime has reserved by then (hardly
// any of it is memory in use), the runtime can map nothing more, and the init would die. So
// it reserves beforehand what it will need.
const (
	spareThreads = 6
	spareHeap    = 32 << 20 // in bytes; a spec may have some MiB, and is there more than once
)

// growHeap has the Go runtime map a heap of that many bytes, which it keeps. It
// costs no memory until it is used.
func growHeap(bytes int) {
	heap := make([]byte, bytes)
	runtime.KeepAlive(heap)
	runtime.GC()
}

// makeSpareThreads has the Go runtime make threads, which it keeps.
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
