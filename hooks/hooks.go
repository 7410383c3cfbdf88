// Package hooks runs the hooks of the runtime specification.
package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxOutput bounds how much of a hook's output an error quotes, in bytes.
const maxOutput = 2048

// DefaultTimeout bounds a hook that names no timeout.
const DefaultTimeout = 5 * time.Minute

// Run runs hooks in a directory one after the other, each with the container's
// state on its stdin. It stops at the first failure. name is the hooks' name in the
// spec.
func Run(ctx context.Context, name string, list []specs.Hook, dir string, s *specs.State) error {
	for i, hook := range list {
		if err := runOne(ctx, hook, dir, s); err != nil {
			return fmt.Errorf("error running %s hook #%d: %w", name, i, err)
		}
	}
	return nil
}

// RunAll is Run, but goes on after a failure. It returns an error for each hook that
// failed.
func RunAll(ctx context.Context, name string, list []specs.Hook, dir string, s *specs.State) []error {
	var errs []error
	for i, hook := range list {
		if err := runOne(ctx, hook, dir, s); err != nil {
			errs = append(errs, fmt.Errorf("error running %s hook #%d: %w", name, i, err))
		}
	}
	return errs
}

// Timeout is how long hooks may take, one after the other: the sum of their timeouts.
func Timeout(lists ...[]specs.Hook) (sum time.Duration) {
	for _, list := range lists {
		for _, hook := range list {
			sum += timeoutOf(hook)
		}
	}
	return sum
}

func timeoutOf(hook specs.Hook) time.Duration {
	if hook.Timeout != nil {
		return time.Duration(*hook.Timeout) * time.Second
	}
	return DefaultTimeout
}

func runOne(ctx context.Context, hook specs.Hook, dir string, s *specs.State) error {
	input, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	timeout := timeoutOf(hook)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, hook.Path)
	if len(hook.Args) > 0 {
		cmd.Args = hook.Args
	}
	cmd.Dir = dir
	cmd.Env = hook.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stdout, cmd.Stderr = &output, &output
	// A child of the hook may keep the output open: without WaitDelay, Run waits for the child.
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("hook ran past specified timeout of %.1fs", timeout.Seconds())
	}
	tail := bytes.TrimSpace(output.Bytes())
	if len(tail) > maxOutput {
		tail = tail[len(tail)-maxOutput:]
	}
	return fmt.Errorf("%w, stdout+stderr: %q", err, tail)
}
