// Command runch is an OCI runtime with runc's command line that runs each
// container, or each pod, in a virtual machine.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math"
	"os"

	"runch/commands"
	"runch/shim"
	"runch/shimproto"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// version is set by the linker: "number+commit".
var version = "development"

func main() {
	// Do not pass the caller's file descriptors, except stdio, on to the programs that
	// are started here: a VM lives long, and a reader that waits for the end of a pipe
	// would wait for the VM.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "runch: keep the caller's files to itself:", err)
		os.Exit(1)
	}
	// Discard what libraries log to stderr. In a shim, stderr is the container's, and a
	// caller may read a command's stderr and stdout as one. A guest or a VMM can make
	// ttrpc and net/http log, by answers that nobody waits for.
	logrus.SetOutput(io.Discard)
	log.SetOutput(io.Discard)
	// A shim is this program again. It has to start fast and stay small, and takes no
	// flags.
	if as, ok := shimproto.ParseArgs(os.Args); ok {
		os.Exit(shim.Main(as, shim.NewVM))
	}
	os.Exit(commands.Main(context.Background(), os.Args, version))
}
