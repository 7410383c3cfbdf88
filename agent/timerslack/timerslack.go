// Package timerslack has the timers of the Go runtime's own threads be late, in the
// agent and in the init of a container.
//
// A thread of the Go runtime looks every 20 microseconds whether another one is stuck
// in the kernel. In a VM each of these timers is set, and ends, by an exit to the host:
// half of all exits of a boot, and a seventh of its time where exits are slow. Linux
// lets a thread's timers be late by its slack (PR_SET_TIMERSLACK, prctl(2)), which
// new threads and programs inherit; so it is set before the Go runtime starts.
package timerslack

import "golang.org/x/sys/unix"

// #cgo CFLAGS: -Wall
import "C"

// Reset gives the calling thread the slack that programs have where nobody changes
// it, 50 microseconds, before it becomes one. The caller keeps the thread
// (runtime.LockOSThread).
func Reset() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // it has no way to fail
}
