// Command subreaper stands in for the caller of an OCI runtime (conmon, a containerd shim): the process that
// the container's process is reparented to, and that learns the exit status only by wait4.
//
//	subreaper watch --log FILE -- COMMAND [ARG...]
//	subreaper once [--pid-file FILE] -- COMMAND [ARG...]
//	subreaper never -- COMMAND [ARG...]
//
// watch runs COMMAND, reaps every process that is reparented to it, writes one JSON line to FILE for each, and ends
// with COMMAND's status. once runs COMMAND, then waits for the pid that COMMAND left in the pid file and prints
// one JSON line about it. never runs COMMAND and reaps nothing else: a process that COMMAND leaves behind stays a
// zombie after its end, until the subreaper ends too.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "subreaper: %v\n", err)
		os.Exit(125)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("usage: subreaper watch|once|never [flags] -- command")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	logFile := flags.String("log", "", "file that gets a line for each reaped process")
	pidFile := flags.String("pid-file", "", "file in which the command leaves the pid to wait for")
	if err := flags.Parse(args[1:]); err != nil {
		return 0, err
	}
	if flags.NArg() == 0 {
		return 0, errors.New("no command given")
	}
	// The attribute is not inherited by children (prctl(2)), so orphans of the command are reparented to this process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become a subreaper: %w", err)
	}
	switch args[0] {
	case "watch":
		return watch(*logFile, flags.Args())
	case "once":
		return once(*pidFile, flags.Args())
	case "never":
		return never(flags.Args())
	default:
		return 0, fmt.Errorf("unknown mode %q", args[0])
	}
}
