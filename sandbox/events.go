package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"runch/agentproto"
	"runch/state"
)

// Event is one of runc's events.
type Event struct {
	// Type is "stats" or "oom".
	Type string `json:"type"`
	ID   string `json:"id"`
	// Data are the statistics of a "stats" event.
	Data json.RawMessage `json:"data,omitempty"`
}

// maxStats bounds the statistics taken from a guest, in bytes.
const maxStats = 1 << 20

// Stats gives one event with what the container's cgroup in the guest has used.
func (r *Runtime) Stats(ctx context.Context, id string) (*Event, error) {
	c, err := r.live(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var e *Event
	err = r.call(ctx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		e, err = statsOf(ctx, agent, id)
		return err
	})
	return e, err
}

// live gives the record of a container that has not stopped.
func (r *Runtime) live(id string) (*state.Container, error) {
	c, err := r.Store.Load(id)
	if err != nil {
		return nil, err
	}
	if !hasGuest(c) {
		return nil, fmt.Errorf("container with id %s is not running", id)
	}
	return c, nil
}

func statsOf(ctx context.Context, agent agentproto.AgentService, id string) (*Event, error) {
	resp, err := agent.Stats(ctx, &agentproto.StatsRequest{ContainerId: id})
	if err != nil {
		return nil, err
	}
	if len(resp.GetStats()) > maxStats {
		return nil, fmt.Errorf("the guest's statistics are %d bytes long, more than %d", len(resp.GetStats()), maxStats)
	}
	var data bytes.Buffer
	// It is passed on as it is, so it has to be JSON, and on one line.
	if err := json.Compact(&data, resp.GetStats()); err != nil {
		return nil, fmt.Errorf("the guest's statistics: %w", err)
	}
	return &Event{Type: "stats", ID: id, Data: data.Bytes()}, nil
}

// Events calls hand with an event with statistics at every interval, and with one for
// each process that the guest's OOM killer has killed, until the container ends or hand
// returns an error.
func (r *Runtime) Events(ctx context.Context, id string, interval time.Duration, hand func(*Event) error) error {
	c, err := r.live(id)
	if err != nil {
		return err
	}
	dialCtx, stop := context.WithTimeout(ctx, callTimeout)
	defer stop()
	client, err := r.connect(dialCtx, c)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kills := make(chan error, 1)
	go func() {
		defer close(kills)
		watchKills(ctx, client, id, kills)
	}()
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for {
		select {
		case err, open := <-kills:
			if !open {
				_ = awaitStopped(ctx, c) // a shim that takes longer is not waited for
				return nil
			}
			if err != nil {
				return unlessGone(ctx, c, agentproto.FromAgent(err))
			}
			if err := hand(&Event{Type: "oom", ID: id}); err != nil {
				return err
			}
		case <-ticks.C:
			if err := r.handStats(ctx, client, c, hand); err != nil {
				return err
			}
		}
	}
}

func (r *Runtime) handStats(ctx context.Context, agent agentproto.AgentService, c *state.Container, hand func(*Event) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	e, err := statsOf(ctx, agent, c.ID)
	if err == nil {
		return hand(e)
	}
	err = agentproto.FromAgent(err)
	if errors.Is(err, agentproto.ErrState) || errors.Is(err, agentproto.ErrNotFound) {
		return nil // its end is about to be told
	}
	return unlessGone(ctx, c, err)
}

// awaitStopped waits until the shim of a container whose process has ended is gone, too:
// until then other commands say that the container runs.
func awaitStopped(ctx context.Context, c *state.Container) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	return c.Shim.AwaitEnd(ctx)
}

// unlessGone drops the error of a call that broke because the VM has ended: its
// shim is gone then, or about to be.
func unlessGone(ctx context.Context, c *state.Container, err error) error {
	if errors.Is(err, agentproto.ErrUnreachable) && awaitStopped(ctx, c) == nil {
		return nil
	}
	return err
}

// A guest is not trusted: without bounds, it could have events written without end. It may
// tell of maxKills kills in one answer, and is asked at most once in askInterval.
const (
	maxKills    = 64
	askInterval = 100 * time.Millisecond
)

// watchKills sends nil for each new kill, at most maxKills for each answer. It returns when
// the container has ended, or after it has sent the error of a call.
func watchKills(ctx context.Context, agent agentproto.AgentService, id string, kills chan<- error) {
	var known uint64
	for {
		again := time.After(askInterval)
		resp, err := agent.AwaitOOM(ctx, &agentproto.AwaitOOMRequest{ContainerId: id, Known: known})
		if err != nil {
			if ctx.Err() == nil {
				kills <- err
			}
			return
		}
		told := max(known, resp.GetKills())
		for range min(told-known, maxKills) {
			select {
			case kills <- nil:
			case <-ctx.Done():
				return
			}
		}
		known = told
		if resp.GetEnded() {
			return
		}
		select {
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}
