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
	// Descriptors of the caller's besides stdio are not passed on to the programs that
	// are started here: a VM lives long, and whoever waits for a pipe's end would wait
	// for it.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "runch: keep the caller's files to itself:", err)
		os.Exit(1)
	}
	// Libraries log to stderr, which in the process that stays with a container is the
	// container's own, and which callers of a command may read as one with its stdout.
	// What ttrpc and net/http log is the guest's or the VMM's to choose: answers that
	// nobody waits for.
	logrus.SetOutput(io.Discard)
	log.SetOutput(io.Discard)
	// The process that stays with a container is this program again. It has to
	// start fast and stay small, and takes no flags.
	if as, ok := shimproto.ParseArgs(os.Args); ok {
		os.Exit(shim.Main(as, shim.NewVM))
	}
	os.Exit(commands.Main(context.Background(), os.Args, version))
}
