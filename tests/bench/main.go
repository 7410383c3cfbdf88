// Command bench compares runch with the bare VMM, which boots the same guest with the same command line, and with
// Debian's runc and crun, which make containers without a VM. It measures all of them in one run, in rounds
// (A B A B …), and compares the medians of the pairs' ratios: other load on the machine affects both of a pair.
//
// The parts for files and network compare a container of runch, a guest without runch and a container of crun, which
// do the same work.
//
// The bench prints a table, and writes every sample to a JSON file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// options are the command line's.
type options struct {
	part                      string
	runch, rootfs, spec, json string
	rounds, execs, files      int
	// workload is the program that does the work for files and network. before is another build of runch, or one beside
	// another guest image.
	workload, before string
}

func main() {
	var o options
	flag.StringVar(&o.part, "part", partLife, "what is measured: life, files or network")
	flag.StringVar(&o.runch, "runch", "bin/runch", "the runtime to measure")
	flag.StringVar(&o.rootfs, "rootfs", "build/rootfs/busybox", "a root file system with a shell")
	flag.StringVar(&o.spec, "spec", "tests/config.json", "the containers' config.json")
	flag.StringVar(&o.json, "json", "", "file for all samples")
	flag.IntVar(&o.rounds, "rounds", 10, "how often each thing is done")
	flag.IntVar(&o.execs, "execs", 5, "exec commands in each round")
	flag.IntVar(&o.files, "files", 10000, "how many small files are opened")
	flag.StringVar(&o.workload, "workload", "build/bench-workload", "what does the work for files and network")
	flag.StringVar(&o.before, "before", "", "another build of runch, or one beside another guest image, to be measured in turn")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.rounds < 1 || o.execs < 1 {
		return errors.New("there has to be one round, and one exec in it")
	}
	// As with a runtime's caller, the containers' processes become this process's children.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	switch o.part {
	case partLife:
	case partFiles, partNetwork:
		return runIO(ctx, o)
	default:
		return fmt.Errorf("no part %q: life, files or network", o.part)
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	if err := b.measure(ctx); err != nil {
		return errors.Join(err, b.logs())
	}
	r, err := b.report()
	if err != nil {
		return err
	}
	return r.publish(o.json)
}
