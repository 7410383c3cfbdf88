package sandbox

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"runch/state"

	"golang.org/x/sys/unix"
)

// The timeouts of a fallback runtime that runs as a child of this process.
const (
	// listTimeout is short: a runtime that hangs must not keep list from showing the other
	// containers.
	listTimeout   = 5 * time.Second
	deleteTimeout = time.Minute
	// pipeTimeout bounds the wait, once the runtime has ended, for processes that it has
	// left behind with its output open.
	pipeTimeout = time.Second
)

// Forget removes the record of a container that PassOn has just made, and nothing else.
func (r *Runtime) Forget(ctx context.Context, id string) error {
	self, err := state.Self()
	if err != nil {
		return fmt.Errorf("identify this process: %w", err)
	}
	return r.forget(ctx, id, func(_ *Fallback, c *state.Container) bool { return c.Creator == self })
}

// forget removes the record of a container that was passed on, if still, which is called
// under the container's lock, returns true.
func (r *Runtime) forget(ctx context.Context, id string, still func(*Fallback, *state.Container) bool) error {
	dir, c, err := r.lockAndLoad(ctx, id)
	if errors.Is(err, state.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f := r.fallbackOf(c)
	if f == nil || !still(f, c) {
		return dir.Close()
	}
	if err := dir.Remove(); err != nil {
		return err
	}
	r.removeFallbackRoot(f)
	return nil
}

// removeFallbackRoot removes a fallback runtime's root if that is empty and no container
// is about to be made in it.
func (r *Runtime) removeFallbackRoot(f *Fallback) {
	all, err := r.Store.List()
	used := slices.ContainsFunc(all, func(c *state.Container) bool { return c.Fallback != "" && *r.fallbackOf(c) == *f })
	if err == nil && !used {
		_ = unix.Rmdir(f.Root) // fails if it is not empty
	}
}

// deletePassedOn has the runtime delete a container, and removes its record with it. If the
// runtime fails, it has said why on stderr, and the error wraps an *exec.ExitError.
func (r *Runtime) deletePassedOn(ctx context.Context, f *Fallback, id string, force bool) error {
	if force {
		if err := r.endCreator(ctx, f, id); err != nil {
			return err
		}
	}
	if !force || f.knows(id) {
		command := []string{"delete", id}
		if force {
			command = []string{"delete", "--force", id}
		}
		if err := runFallback(ctx, deleteTimeout, f.Args(r.FallbackFlags, command...), os.Stdout, os.Stderr); err != nil {
			return fmt.Errorf("delete the container by its runtime: %w", err)
		}
	}
	return r.forget(ctx, id, func(f *Fallback, _ *state.Container) bool { return !f.knows(id) })
}

// runFallback runs a runtime up to its end.
func runFallback(ctx context.Context, timeout time.Duration, args []string, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdout, stderr, pipeTimeout
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s did not end within %s", args[0], timeout)
		}
		return err
	}
	return nil
}

// endCreator kills a create that has not come to the point where the runtime knows of the
// container: nobody would delete what the create makes later.
func (r *Runtime) endCreator(ctx context.Context, f *Fallback, id string) error {
	c, err := r.Store.Load(id)
	if err != nil || f.knows(id) {
		return nil // it was deleted meanwhile, or the runtime can delete it
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	return c.Creator.Kill(ctx)
}

// AskFallbacks replaces the recorded states of containers that were passed on by what their
// runtimes say, and sorts all by id. Containers that their runtime does not know any more
// are left out, and their records removed. If a runtime cannot be asked, the status of its
// containers is StatusUnknown, and the error says why.
func (r *Runtime) AskFallbacks(ctx context.Context, states []*State) ([]*State, error) {
	byProgram := make(map[string][]*State)
	var all []*State
	for _, s := range states {
		if s.Fallback == "" {
			all = append(all, s)
		} else {
			byProgram[s.Fallback] = append(byProgram[s.Fallback], s)
		}
	}
	var errs []error
	for program, recorded := range byProgram {
		f := &Fallback{Program: program, Root: r.Store.FallbackRoot(program)}
		found, err := listFallback(ctx, f)
		if err != nil {
			errs = append(errs, fmt.Errorf("list the containers of %s: %w", program, err))
		}
		all = append(all, r.merge(ctx, recorded, found, err == nil)...)
	}
	slices.SortFunc(all, func(a, b *State) int { return cmp.Compare(a.ID, b.ID) })
	return all, errors.Join(errs...)
}

// StatusUnknown is the status of a container whose runtime could not be asked.
const StatusUnknown = "unknown"

// merge gives the states of the recorded containers of a runtime, by what the runtime has
// found if it could be asked.
func (r *Runtime) merge(ctx context.Context, recorded []*State, found map[string]*State, asked bool) []*State {
	var states []*State
	for _, s := range recorded {
		now := found[s.ID]
		switch {
		case now != nil:
			now.Fallback, now.Annotations = s.Fallback, s.Annotations // crun does not tell the annotations
			states = append(states, now)
		case r.FallbackOf(ctx, s.ID) == nil:
		case !asked:
			s.Status = StatusUnknown
			states = append(states, s)
		default:
			states = append(states, s)
		}
	}
	return states
}

// listFallback asks a runtime for its containers, by their ids.
func listFallback(ctx context.Context, f *Fallback) (map[string]*State, error) {
	if _, err := os.Stat(f.Root); err != nil {
		return nil, nil //nolint:nilerr // it has made none yet, and would call it an error
	}
	var output, complaints bytes.Buffer
	if err := runFallback(ctx, listTimeout, f.Args(nil, "list", "--format", "json"), &output, &complaints); err != nil {
		if text := strings.TrimSpace(complaints.String()); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, err
	}
	var states []*State
	if err := json.Unmarshal(output.Bytes(), &states); err != nil {
		return nil, fmt.Errorf("read what it says: %w", err)
	}
	found := make(map[string]*State)
	for _, s := range states {
		found[s.ID] = s
	}
	return found, nil
}
