// Package shimproto is what the short commands and the processes that stay say to
// each other: the setup, over a socket pair that the command makes, and the
// requests to a sandbox's holder, over a socket in the sandbox's directory. Both
// are messages of JSON, one a datagram or a line, with descriptors beside.
package shimproto

import "time"

// LostGrace is how long a connection to the guest may be gone before its VM is: a
// VMM that was killed closes its files, and then has the guest's memory to give back.
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
	// LostNote is where a shim that does not know how its container ended says why:
	// it has nobody to tell. It is empty for as long as all is well.
	LostNote = "lost"
)
