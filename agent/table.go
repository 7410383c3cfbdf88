package agent

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// table holds the guest's containers by id. It is safe for concurrent use.
type table struct {
	mu    sync.Mutex
	byID  map[string]*container
	claim map[string]struct{}
	// order of arrival, to forget the oldest of those that have ended
	order []string
}

func newTable() *table {
	return &table{byID: make(map[string]*container), claim: make(map[string]struct{})}
}

// get finds a container.
func (t *table) get(id string) (*container, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.byID[id]
	if !ok {
		return nil, errNoContainer
	}
	return c, nil
}

// reserve claims an id for a container that is to be made. A container of that id that
// has ended is forgotten as soon as everything of it is removed. One that still lives, but
// whose shim is gone, is killed first: for the host its id is free.
func (t *table) reserve(ctx context.Context, id string) error {
	t.mu.Lock()
	old, ok := t.byID[id]
	_, claimed := t.claim[id]
	if !ok && !claimed {
		defer t.mu.Unlock()
		return t.reserveLocked(id)
	}
	t.mu.Unlock()
	if claimed {
		return errExists
	}
	if old.state() != stopped {
		if old.init.waiting.Load() > 0 {
			return errExists
		}
		if err := old.signalAll(unix.SIGKILL); err != nil {
			return fmt.Errorf("end the container of that id, which no shim stands for: %w", err)
		}
	}
	select {
	case <-old.gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[id] != old {
		return errExists
	}
	t.forget(id)
	return t.reserveLocked(id)
}

func (t *table) reserveLocked(id string) error {
	if len(t.byID)+len(t.claim) >= maxContainers && !t.forgetOldest() {
		return fmt.Errorf("containers: %w", errTooMany)
	}
	t.claim[id] = struct{}{}
	return nil
}

// forgetOldest forgets the oldest of the containers that have ended and are removed. It
// reports false if there is none.
func (t *table) forgetOldest() bool {
	for _, id := range t.order {
		select {
		case <-t.byID[id].gone:
			t.forget(id)
			return true
		default:
		}
	}
	return false
}

func (t *table) forget(id string) {
	delete(t.byID, id)
	for i, other := range t.order {
		if other == id {
			t.order = append(t.order[:i], t.order[i+1:]...)
			return
		}
	}
}

// release ends the reservation of an id; c, if it is not nil, has the id from now on.
func (t *table) release(id string, c *container) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.claim, id)
	if c != nil {
		t.byID[id] = c
		t.order = append(t.order, id)
	}
}

// all gives every container there is.
func (t *table) all() []*container {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*container, 0, len(t.byID))
	for _, c := range t.byID {
		out = append(out, c)
	}
	return out
}
