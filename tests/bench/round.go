package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// measure does all rounds.
func (b *bench) measure(ctx context.Context) error {
	fmt.Fprintln(os.Stderr, "warming up")
	if err := b.warmUp(ctx); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	for n := range b.options.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", n+1, b.options.rounds)
		if err := b.round(ctx, n == b.options.rounds-1); err != nil {
			return fmt.Errorf("round %d: %w", n+1, err)
		}
	}
	fmt.Fprintln(os.Stderr, "system calls")
	if err := b.countSyscalls(ctx); err != nil {
		return fmt.Errorf("count system calls: %w", err)
	}
	return nil
}

// round does everything once. Things that are compared directly follow each other.
func (b *bench) round(ctx context.Context, last bool) error {
	for _, r := range b.runtimes {
		if r.bare != nil {
			raw, err := r.bare.boot(ctx)
			if err != nil {
				return fmt.Errorf("boot the %s: %w", r.bare.name, err)
			}
			b.samples.addBoot(r.bare.name, raw)
		}
		if err := b.launch(ctx, r); err != nil {
			return err
		}
	}
	for range b.options.execs {
		for _, r := range b.runtimes {
			if err := b.exec(ctx, r); err != nil {
				return err
			}
		}
	}
	for _, r := range b.runtimes {
		if r.bare == nil {
			continue
		}
		if err := b.lookInside(ctx, r, last); err != nil {
			return err
		}
	}
	for _, r := range b.runtimes {
		if err := b.end(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// launch creates and starts a container, and waits for its first output.
func (b *bench) launch(ctx context.Context, r *runtime) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	first := make(chan error, 1)
	var wrote time.Time
	go func() {
		_, err := read.Read(make([]byte, 1))
		wrote = time.Now()
		first <- err
	}()
	created, err := measure(ctx, r.start, write, r.argv("create")...)
	_ = write.Close()
	if err != nil {
		return err
	}
	b.samples.cost("create", r.name, created)
	if err := b.createCPU(r, created); err != nil {
		return err
	}
	began := time.Now()
	if err := b.verb(ctx, r, "start"); err != nil {
		return err
	}
	if err := read.SetReadDeadline(time.Now().Add(commandTimeout)); err != nil {
		return err
	}
	if err := <-first; err != nil {
		return fmt.Errorf("%s: the container writes nothing: %w", r.name, err)
	}
	// The time between the two commands does not count: it is the bench's own.
	b.samples.duration(firstByte, wall, r.name, created.wall+wrote.Sub(began))
	return b.keepExits(r)
}

// verb runs one verb and keeps its cost.
func (b *bench) verb(ctx context.Context, r *runtime, verb string) error {
	c, err := r.do(ctx, verb)
	if err != nil {
		return err
	}
	b.samples.cost(verb, r.name, c)
	return nil
}

// exec runs true in the container, and keeps the CPU time of the VMM where there is one.
func (b *bench) exec(ctx context.Context, r *runtime) error {
	if r.bare == nil {
		return b.verb(ctx, r, "exec")
	}
	s, err := r.sandbox()
	if err != nil {
		return err
	}
	used, err := cpuTime(s.vmm.pid)
	if err != nil {
		return err
	}
	if err := b.verb(ctx, r, "exec"); err != nil {
		return err
	}
	after, err := cpuTime(s.vmm.pid)
	b.samples.duration("exec", cpuVMM, r.name, after-used)
	return err
}

// end kills and deletes the container.
func (b *bench) end(ctx context.Context, r *runtime) error {
	if err := b.verb(ctx, r, "kill"); err != nil {
		return err
	}
	if err := r.awaitEnd(ctx); err != nil {
		return err
	}
	return b.verb(ctx, r, "delete")
}
