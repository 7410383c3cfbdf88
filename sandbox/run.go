package sandbox

import (
	"context"
	"errors"
)

// RunOptions are what run is asked for.
type RunOptions struct {
	CreateOptions
	// Detach makes Run return when the container runs.
	Detach bool
	// Keep leaves the container's record when it has ended.
	Keep bool
}

// Run creates and starts a container. Unless it is to be detached, Run waits
// for its end, deletes it, and gives its exit code. SIGTERM and SIGINT cancel Run while
// it creates the container and, with Detach, also while it starts the container; then
// nothing is left. Without Detach, all other signals, and these two later on, are passed
// on to the process once it runs.
func (r *Runtime) Run(ctx context.Context, o RunOptions) (int, error) {
	f, err := newForeground(o.Detach, o.ConsoleSocket, terminalOf(o.Bundle.Spec.Process))
	if err != nil {
		return 0, err
	}
	defer f.close()
	making, stop := f.catch(ctx, o.Detach)
	defer stop()
	p, err := r.create(making, o.CreateOptions, f.terminal, f.console)
	if err != nil {
		return 0, err
	}
	remove := func() error { return r.Delete(context.WithoutCancel(ctx), o.ID, true) }
	if err := r.startMade(ctx, making, o); err != nil {
		return 0, errors.Join(err, remove())
	}
	if o.Detach {
		return 0, nil
	}
	code, err := f.wait(p)
	if !o.Keep {
		err = errors.Join(err, remove())
	}
	return code, err
}

// startMade starts what create has made. It fails if making was cancelled when create was
// already done.
func (r *Runtime) startMade(ctx, making context.Context, o RunOptions) error {
	if err := context.Cause(making); err != nil {
		return err
	}
	if o.Detach {
		ctx = making // nobody would pass a signal on later
	}
	return r.Start(ctx, o.ID)
}
