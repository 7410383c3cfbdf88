package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// tracedRounds is how often system calls are counted at most. More than once, as a Go program's number of system calls
// varies with its threads.
const tracedRounds = 3

// countSyscalls runs all verbs of each runtime under strace, once for each count.
func (b *bench) countSyscalls(ctx context.Context) error {
	strace, err := exec.LookPath("strace")
	if err != nil {
		b.missing = append(b.missing, fmt.Sprintf("system calls are not counted: %v", err))
		return nil
	}
	for range min(tracedRounds, b.options.rounds) {
		for _, r := range b.runtimes {
			for _, verb := range verbs {
				n, err := b.traced(ctx, strace, r, verb)
				if err != nil {
					return err
				}
				b.samples.number(verb, syscalls, r.name, n)
				if verb == "kill" {
					if err := r.awaitEnd(ctx); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// traced runs one verb and counts the system calls of all threads of the command, without other processes.
func (b *bench) traced(ctx context.Context, strace string, r *runtime, verb string) (float64, error) {
	summary := filepath.Join(b.dir, "strace")
	argv := []string{strace, "-c", "-U", "calls,name", "-o", summary}
	if r.name != crun {
		// strace follows threads, and a child until its execve. It does not follow for crun, which has no threads
		// and whose child is already the container.
		argv = append(argv, "-f", "-b", "execve", "--quiet=attach")
	}
	if _, err := measure(ctx, r.start, nil, append(argv, r.argv(verb)...)...); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[1] == "total" {
			return strconv.ParseFloat(fields[0], 64)
		}
	}
	return 0, errors.New("strace's summary has no total: " + string(text))
}
