package agent

import "fmt"

// canExec tells whether another process may be started.
func (c *container) canExec(ignorePaused bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == stopped:
		return errExecStopped
	case c.paused && !ignorePaused:
		return errExecPaused
	case len(c.execs) >= maxExecs:
		return fmt.Errorf("processes in the container: %w", errTooMany)
	}
	return nil
}

// reserve keeps an exec's id from being used twice.
func (c *container) reserve(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.execs[id]; ok {
		return errProcessExists
	}
	c.execs[id] = nil
	return nil
}

func (c *container) setExec(id string, p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p == nil {
		delete(c.execs, id)
		return
	}
	c.execs[id] = p
}

// forget drops an exec. It does nothing for the container's init.
func (c *container) forget(id string, p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.execs[id] == p {
		delete(c.execs, id)
	}
}

// abandon forgets an exec whose shim is gone, as soon as the exec has ended.
func (c *container) abandon(id string, p *process) {
	p.abandoned.Store(true)
	select {
	case <-p.done:
		c.forget(id, p)
	default: // endExec forgets it
	}
}

// process finds the init (no exec id) or an exec.
func (c *container) process(execID string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if execID == "" {
		return c.init, nil
	}
	p := c.execs[execID]
	if p == nil {
		return nil, errNoProcess
	}
	return p, nil
}
