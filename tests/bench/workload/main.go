// Command workload does the work that the bench measures for files and network. It runs in containers, and as the init
// of a guest without an agent, where it mounts its root first. It writes the results to a file in its root.
//
//	workload files [--cold] --dirs N NAME=DIR   reads and writes in a directory, by fio and by itself
//	workload network ADDRESS                talks to iperf3 and to "workload echo" there
//	workload guest CIDR files|network ...   as init of a guest: CIDR is its address, or "-"
//	workload echo                           sends back what it gets, on the host
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"runch/tests/bench/measurement"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("nothing to do")
	}
	ctx := context.Background() // the caller bounds its time
	// The kernel passes unknown words of its command line to init as arguments, before those after "--".
	if i := slices.Index(args, "guest"); os.Getpid() == 1 && i > 0 {
		args = args[i:]
	}
	switch args[0] {
	case "guest":
		return guest(args[1:])
	case "echo":
		return echo(ctx)
	default:
		return measure(ctx, args)
	}
}

// measure does the work that the arguments ask for and writes the results.
func measure(ctx context.Context, args []string) error {
	var list []measurement.Measurement
	var err error
	switch {
	case args[0] == "files":
		list, err = files(ctx, args[1:])
	case args[0] == "network" && len(args) == 2:
		list, err = network(ctx, args[1])
	default:
		err = fmt.Errorf("unknown work %q", args)
	}
	if err != nil {
		return err
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return os.WriteFile(measurement.ResultFile, text, 0o600)
}
