// Command bench measures runch: beside the bare VMM that boots the same guest with the same command line, and
// beside Debian's runc and crun, which make containers without a VM. All of it is one run, in rounds (A B A B …),
// and the medians of the pairs' ratios are compared: other load on the machine affects both of a pair.
//
// It prints a table, and writes every sample to a JSON file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// options are the command line's.
type options struct {
	runch, rootfs, spec, json string
	rounds, execs             int
}

func main() {
	var o options
	flag.StringVar(&o.runch, "runch", "bin/runch", "the runtime to measure")
	flag.StringVar(&o.rootfs, "rootfs", "build/rootfs/busybox", "a root file system with a shell")
	flag.StringVar(&o.spec, "spec", "tests/config.json", "the containers' config.json")
	flag.StringVar(&o.json, "json", "", "file for all samples")
	flag.IntVar(&o.rounds, "rounds", 10, "how often each thing is done")
	flag.IntVar(&o.execs, "execs", 5, "exec commands in each round")
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
	// As a runtime's caller does: the containers' processes become children.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
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
	if err := r.print(os.Stdout); err != nil {
		return err
	}
	if o.json == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.json), 0o755); err != nil {
		return err
	}
	return r.save(o.json)
}
