package sandbox

import (
	"context"
	"errors"
)

// RunOptions are what run is asked for.
type RunOptions struct {
	CreateOptions
	// Detach returns when the container runs.
	Detach bool
	// Keep leaves the container's record when it has ended.
	Keep bool
}

// Run creates and starts a container. Unless it is to be detached, Run waits
// for its end, deletes it, and gives its exit code.
func (r *Runtime) Run(ctx context.Context, o RunOptions) (int, error) {
	f, err := newForeground(o.Detach, o.ConsoleSocket, terminalOf(o.Bundle.Spec.Process))
	if err != nil {
		return 0, err
	}
	defer f.close()
	p, err := r.create(ctx, o.CreateOptions, f.terminal, f.console)
	if err != nil {
		return 0, err
	}
	if err := r.Start(ctx, o.ID); err != nil {
		return 0, errors.Join(err, r.Delete(ctx, o.ID, true))
	}
	if o.Detach {
		return 0, nil
	}
	code, err := f.wait(p)
	if !o.Keep {
		err = errors.Join(err, r.Delete(ctx, o.ID, true))
	}
	return code, err
}
