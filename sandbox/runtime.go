// Package sandbox makes and ends VMs and the containers in them. It is the one
// package that ties hypervisor, storage, network, cgroup, shim and the agent
// together. Its verbs are runc's. All of it runs in the short commands; the long-lived
// processes, which the commands start, are those of package shim.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"runch/agentproto"
	"runch/config"
	"runch/state"
	"runch/transport"
)

// Errors with runc's texts, for which callers of a runtime search, beside those
// of package state.
var (
	ErrStartStopped = agentproto.ErrStartStopped
	ErrStartRunning = agentproto.ErrStartRunning
	ErrExecStopped  = agentproto.ErrExecStopped
	ErrExecPaused   = agentproto.ErrExecPaused
	ErrNotStopped   = errors.New("that is not stopped")
)

// errEnded says that the container ended while the agent was asked. Where its VM
// ends with it, the answer may be lost.
var errEnded = fmt.Errorf("%w any more", state.ErrNotRunning)

// How long a verb may wait.
const (
	lockTimeout = 30 * time.Second
	// callTimeout bounds a call to the agent.
	callTimeout = 30 * time.Second
	// killTimeout is how long a guest may take to answer before SIGKILL is
	// given to its VM instead.
	killTimeout = 2 * time.Second
	// goneTimeout bounds the end of a shim that was killed.
	goneTimeout = 10 * time.Second
	// endTimeout bounds the wait for a shim's end after the connection to its guest was
	// lost.
	endTimeout = time.Second
)

// Runtime is what every verb needs.
type Runtime struct {
	Store  *state.Store
	Config *config.Config
	Log    *slog.Logger
	// Systemd says that cgroups are made by systemd.
	Systemd bool
	// FallbackFlags are the global flags that a fallback runtime gets after --root.
	FallbackFlags []string
}

// State is what `state` and `list` say of a container, in runc's names: the
// state of the runtime specification, and runc's own additions.
type State struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
	// Fallback is the program of the fallback runtime that the container was passed on
	// to; empty for a container in a VM.
	Fallback string `json:"fallback,omitempty"`
}

func stateOf(c *state.Container) *State {
	s := &State{
		OCIVersion: c.OCIVersion, ID: c.ID, PID: c.Shim.PID, Status: c.Status(), Bundle: c.Bundle,
		Rootfs: c.Rootfs, Created: c.Created, Annotations: c.Annotations, Owner: c.Owner,
		Fallback: c.Fallback,
	}
	if s.Status == state.StatusStopped {
		s.PID = 0
	}
	return s
}

// State gives a container's state.
func (r *Runtime) State(id string) (*State, error) {
	c, err := r.Store.Load(id)
	if err != nil {
		return nil, err
	}
	return stateOf(c), nil
}

// lock takes the container's lock; the caller closes what it gets.
func (r *Runtime) lock(ctx context.Context, id string) (*state.Dir, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return r.Store.Lock(ctx, id)
}

// newDir makes a container's directory and takes its lock; the caller closes what it gets.
func (r *Runtime) newDir(ctx context.Context, id string) (*state.Dir, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return r.Store.New(ctx, id)
}

// lockAndLoad takes the container's lock and reads its record, which nobody else
// changes then; the caller closes the lock.
func (r *Runtime) lockAndLoad(ctx context.Context, id string) (*state.Dir, *state.Container, error) {
	dir, err := r.lock(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	c, err := dir.Load()
	if err != nil {
		_ = dir.Close()
		return nil, nil, err
	}
	return dir, c, nil
}

// endpoint says where a container's guest is reached.
func (r *Runtime) endpoint(c *state.Container) (transport.Endpoint, error) {
	s, err := r.Store.LoadSandbox(c.Sandbox)
	if err != nil {
		return transport.Endpoint{}, err
	}
	return s.Endpoint, nil
}

// connect connects to the agent of a container's guest.
func (r *Runtime) connect(ctx context.Context, c *state.Container) (*agentproto.Client, error) {
	endpoint, err := r.endpoint(c)
	if err != nil {
		return nil, err
	}
	return connectTo(ctx, endpoint)
}

// connectTo connects to the agent of a guest.
func connectTo(ctx context.Context, endpoint transport.Endpoint) (*agentproto.Client, error) {
	client, err := agentproto.Connect(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", agentproto.ErrUnreachable, err)
	}
	return client, nil
}

// call does one call to the agent of a container's guest. It gives errEnded
// when the container ended meanwhile and the answer is lost, and ErrNotRunning
// when it ended before the agent could be asked.
func (r *Runtime) call(ctx context.Context, c *state.Container, do func(context.Context, agentproto.AgentService) error) error {
	client, err := r.connect(ctx, c)
	if err != nil {
		if endsWith(ctx, c, err) {
			return state.ErrNotRunning
		}
		return err
	}
	defer client.Close()
	err = agentproto.FromAgent(do(ctx, client))
	if endsWith(ctx, c, err) {
		return errEnded
	}
	return err
}

// endsWith tells whether the connection to a container's guest was lost, as err says,
// because the container has ended. Its shim may end a moment later, and is waited for.
func endsWith(ctx context.Context, c *state.Container, err error) bool {
	if !errors.Is(err, agentproto.ErrUnreachable) || ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	return c.Shim.AwaitEnd(ctx) == nil
}

// whileAlive gives a context that ends with a process, at the latest when cancel is called.
func whileAlive(ctx context.Context, p state.Process) (alive context.Context, cancel context.CancelFunc) {
	alive, cancel = context.WithCancel(ctx)
	go func() {
		defer cancel()
		_ = p.AwaitEnd(alive) // it ends with alive, too
	}()
	return alive, cancel
}
