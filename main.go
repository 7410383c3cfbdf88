// Command runch is an OCI runtime with runc's command line that runs each
// container in a virtual machine of its own.
package main

import (
	"context"
	"os"

	"runch/commands"
	"runch/sandbox"
)

// version is set by the linker: "number+commit".
var version = "development"

func main() {
	// The process that stays with a container is this program again. It has to
	// start fast and stay small, and its orders come by other ways than flags.
	if len(os.Args) == 2 && os.Args[1] == "shim" {
		os.Exit(sandbox.RunShim())
	}
	os.Exit(commands.Main(context.Background(), os.Args, version))
}
