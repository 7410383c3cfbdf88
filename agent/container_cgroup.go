package agent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// oomKills counts the processes of the container that the kernel killed for
// lack of memory. When the cgroup is gone, it gives 1 if there were any, else 0.
func (c *container) oomKills() uint64 {
	n, err := c.cgroup.OOMKillCount()
	if err == nil {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.oom {
		return 1
	}
	return 0
}

// signalAll signals every process of the container.
func (c *container) signalAll(sig unix.Signal) error {
	if sig == unix.SIGKILL {
		err := os.WriteFile(c.cgroup.Path("")+"/cgroup.kill", []byte("1"), 0)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	pids, err := c.cgroup.GetAllPids()
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// freeze pauses or resumes. A pause that fails, or comes too late for its caller, leaves
// the container running.
func (c *container) freeze(ctx context.Context, on bool) error {
	c.freezing.Lock()
	defer c.freezing.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait for processes that are started: %w", err)
	}
	c.mu.Lock()
	ph, paused := c.phase, c.paused
	c.mu.Unlock()
	to := cgroups.Frozen
	switch {
	case on && (ph == stopped || paused):
		return errNotRunning
	case !on && !paused:
		return errNotPaused
	case !on:
		to = cgroups.Thawed
	}
	if err := c.cgroup.Freeze(to); err != nil {
		if on {
			// Processes that did not freeze in time would freeze later.
			err = errors.Join(err, c.cgroup.Freeze(cgroups.Thawed))
		}
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setPaused(on && c.phase != stopped)
	return nil
}

// setPaused notes the pause and its end, under the mutex.
func (c *container) setPaused(on bool) {
	c.paused = on
	switch {
	case on && c.resumed == nil:
		c.resumed = make(chan struct{})
	case !on && c.resumed != nil:
		close(c.resumed)
		c.resumed = nil
	}
}

// awaitThawed waits until the container is not paused, and keeps it from being paused
// until release is called. A process that is started into a frozen cgroup does not reach
// its exec, and the Go runtime blocks the thread that starts it until then. On a single
// CPU that stops all goroutines: the agent would never read the request to resume.
func (c *container) awaitThawed(ctx context.Context) (release func(), err error) {
	for {
		c.freezing.RLock()
		c.mu.Lock()
		resumed := c.resumed
		c.mu.Unlock()
		if resumed == nil {
			return c.freezing.RUnlock, nil
		}
		c.freezing.RUnlock()
		select {
		case <-resumed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the container to be resumed: %w", ctx.Err())
		}
	}
}
