// Package timerslack lets the timers of the Go runtime's own threads be late, in the
// agent and in the init of a container.
//
// A thread of the Go runtime looks every 20 microseconds whether another one is stuck
// in the kernel. In a VM, to set such a timer takes an exit to the host, and so does its
// end: half of all exits of a boot, and a seventh of its time where exits are slow. Linux
// lets a thread's timers be late by its slack (PR_SET_TIMERSLACK, prctl(2)). New threads
// and programs inherit the slack, so it is set before the Go runtime starts.
package timerslack

import "golang.org/x/sys/unix"

// #cgo CFLAGS: -Wall
import "C"

// Reset gives the calling thread Linux's default slack, 50 microseconds, for the
// program that it will execute. The caller keeps the thread (runtime.LockOSThread).
func Reset() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // it has no way to fail
}
