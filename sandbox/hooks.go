package sandbox

import (
	"context"
	"time"

	"runch/hooks"
	"runch/shimproto"
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
	return hooks.Timeout(h.Prestart, h.CreateRuntime, h.CreateContainer)
}

// limitStartHooks gives those hooks that the guest runs and that have no timeout the default
// one: libcontainer, which runs them there, would wait without end.
func limitStartHooks(h *specs.Hooks) {
	if h == nil {
		return
	}
	seconds := int(hooks.DefaultTimeout / time.Second)
	for i := range h.StartContainer {
		if h.StartContainer[i].Timeout == nil {
			h.StartContainer[i].Timeout = &seconds
		}
	}
}

// startHooksTimeout is how long the hooks may take that the guest runs.
func startHooksTimeout(h *specs.Hooks) time.Duration {
	if h == nil {
		return 0
	}
	return hooks.Timeout(h.StartContainer)
}

// hasCreateHooks tells whether the shim has to wait for hooks: they may fill
// the network namespace or the rootfs.
func (c *creation) hasCreateHooks() bool {
	h := c.host.Hooks
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0
}

// runCreateHooks runs the hooks that come before the container, in the specification's
// order: prestart and createRuntime here, then createContainer in the shim, whose
// namespaces stand for the container's on the host.
func (c *creation) runCreateHooks(ctx context.Context) error {
	if _, err := c.shim.receive(ctx); err != nil {
		return err
	}
	h := c.host.Hooks
	for _, kind := range []struct {
		name string
		list []specs.Hook
	}{
		{"prestart", h.Prestart},
		{"createRuntime", h.CreateRuntime},
	} {
		err := hooks.Run(ctx, kind.name, kind.list, c.record.Bundle, hookState(c.record, specs.StateCreating))
		if err != nil {
			return err
		}
	}
	return c.shim.conn.Send(shimproto.Reply{Proceed: true})
}
