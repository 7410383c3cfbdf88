// Package signals catches the signals that a process passes on to the one for which it
// stands, and those that interrupt a command.
package signals

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// queue is how many signals may wait while the guest boots and its process is made.
const queue = 64

// Catch has every signal that can be caught delivered to the returned channel until stop
// is called, except those that a Go program with threads and children needs itself. PID 1
// of a pid namespace gets a signal only if it catches it, see pid_namespaces(7).
func Catch() (caught <-chan os.Signal, stop func()) {
	ch := make(chan os.Signal, queue)
	var all []os.Signal
	for n := unix.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP:
			// cannot be caught
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE:
			// for this process itself: a child, Go's scheduler, a reader of the output that has gone
		case 32, 33, 34:
			// the threading library's own
		default:
			all = append(all, n)
		}
	}
	signal.Notify(ch, all...)
	return ch, func() { signal.Stop(ch) }
}
