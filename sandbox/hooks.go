package sandbox

import (
	"context"
	"time"

	"runch/hooks"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hookState is what hooks are told of a container.
func hookState(c *state.Container, status specs.ContainerState) *specs.State {
	s := &specs.State{
		Version: c.OCIVersion, ID: c.ID, Status: status, Pid: c.Shim.PID, Bundle: c.Bundle, Annotations: c.Annotations,
	}
	if status == specs.StateStopped {
		s.Pid = 0
	}
	return s
}

// runPoststop runs the hooks of a container that is gone. A failure is no more
// than a warning, and keeps no other hook from running.
func (r *Runtime) runPoststop(ctx context.Context, c *state.Container) {
	if c.Hooks == nil {
		return
	}
	for _, err := range hooks.RunAll(ctx, "poststop", c.Hooks.Poststop, c.Bundle, hookState(c, specs.StateStopped)) {
		r.Log.Warn(err.Error())
	}
}

// createHooksTimeout is how long the hooks may take that create runs.
func createHooksTimeout(h *specs.Hooks) time.Duration {
	if h == nil {
		return 0
	}
	return hooks.Timeout(h.Prestart, h.CreateRuntime, h.CreateContainer) //nolint:staticcheck // prestart is deprecated, and used
}

// startHooksTimeout is how long the hooks may take that the guest runs.
func startHooksTimeout(h *specs.Hooks) time.Duration {
	if h == nil {
		return 0
	}
	return hooks.Timeout(h.StartContainer)
}
