// Package shimproto has the protocols between commands and the processes that stay after
// them, shims and holders: the setup, over a socket pair that the command makes, and the
// requests to a sandbox's holder, over a socket in the sandbox's directory. Both are JSON:
// the setup has one message a line; each request and each answer is one datagram, which
// may carry file descriptors.
package shimproto

import "time"

// LostGrace is how long the VM may still seem to run after a connection to its guest was
// lost: a VMM that was killed first closes its files, and then frees the guest's memory.
const LostGrace = time.Second

// The file descriptors that a shim finds besides its stdio.
const (
	SetupFD   = 3
	ConsoleFD = 4
)

// The files of a sandbox's directory.
const (
	ConsoleLog   = "console.log"
	VMMLog       = "vmm.log"
	TreeDir      = "tree"
	ShareSocket  = "fs.sock"
	HolderSocket = "holder.sock"
	// LostNote is the file in which a shim that does not know how its container ended
	// says why, as no command waits for it. It is empty for as long as all is well.
	LostNote = "lost"
)
