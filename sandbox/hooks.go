package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxHookOutput bounds what an error quotes of a hook's words, in bytes.
const maxHookOutput = 2048

// defaultHookTimeout bounds a hook that names no timeout.
const defaultHookTimeout = 5 * time.Minute

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

// runHooks runs hooks in a directory one after the other, each with the
// container's state on its stdin; the first failure ends it. name is the hooks'
// name in the spec.
func runHooks(ctx context.Context, name string, hooks []specs.Hook, dir string, s *specs.State) error {
	for i, hook := range hooks {
		if err := runHook(ctx, hook, dir, s); err != nil {
			return fmt.Errorf("error running %s hook #%d: %w", name, i, err)
		}
	}
	return nil
}

// runPoststop runs the hooks of a container that is gone. A failure is no more
// than a warning, and keeps no other hook from running.
func (r *Runtime) runPoststop(ctx context.Context, c *state.Container) {
	if c.Hooks == nil {
		return
	}
	for i, hook := range c.Hooks.Poststop {
		if err := runHook(ctx, hook, c.Bundle, hookState(c, specs.StateStopped)); err != nil {
			r.Log.Warn(fmt.Sprintf("error running poststop hook #%d: %v", i, err))
		}
	}
}

// hookTimeout bounds a hook.
func hookTimeout(hook specs.Hook) time.Duration {
	if hook.Timeout != nil {
		return time.Duration(*hook.Timeout) * time.Second
	}
	return defaultHookTimeout
}

// hooksTimeout is how long hooks may take, one after the other.
func hooksTimeout(lists ...[]specs.Hook) (sum time.Duration) {
	for _, hooks := range lists {
		for _, hook := range hooks {
			sum += hookTimeout(hook)
		}
	}
	return sum
}

// createHooksTimeout is how long the hooks may take that create runs.
func createHooksTimeout(h *specs.Hooks) time.Duration {
	if h == nil {
		return 0
	}
	return hooksTimeout(h.Prestart, h.CreateRuntime, h.CreateContainer) //nolint:staticcheck // prestart is deprecated, and used
}

// startHooksTimeout is how long the hooks may take that the guest runs.
func startHooksTimeout(h *specs.Hooks) time.Duration {
	if h == nil {
		return 0
	}
	return hooksTimeout(h.StartContainer)
}

func runHook(ctx context.Context, hook specs.Hook, dir string, s *specs.State) error {
	input, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	timeout := hookTimeout(hook)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, hook.Path) // #nosec G204 -- the bundle's hook is for us to run
	if len(hook.Args) > 0 {
		cmd.Args = hook.Args
	}
	cmd.Dir = dir
	cmd.Env = hook.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stdout, cmd.Stderr = &output, &output
	// A child of the hook that keeps its output open must not keep us.
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("hook ran past specified timeout of %.1fs", timeout.Seconds())
	}
	words := bytes.TrimSpace(output.Bytes())
	if len(words) > maxHookOutput {
		words = words[len(words)-maxHookOutput:]
	}
	return fmt.Errorf("%w, stdout+stderr: %q", err, words)
}

// hasCreateHooks tells whether the shim has to wait for hooks: they may fill
// the network namespace or the rootfs.
func (c *creation) hasCreateHooks() bool {
	h := c.host.Hooks
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 //nolint:staticcheck // prestart is deprecated, and used
}

// runCreateHooks runs the hooks that come before the container, in the
// specification's order: the runtime's here, those of the container in the shim,
// whose namespaces are what the host has of the container's.
func (c *creation) runCreateHooks(ctx context.Context) error {
	if _, err := c.shim.hear(ctx); err != nil {
		return err
	}
	h := c.host.Hooks
	for _, kind := range []struct {
		name  string
		hooks []specs.Hook
	}{
		{"prestart", h.Prestart}, //nolint:staticcheck // deprecated, and used
		{"createRuntime", h.CreateRuntime},
	} {
		err := runHooks(ctx, kind.name, kind.hooks, c.record.Bundle, hookState(c.record, specs.StateCreating))
		if err != nil {
			return err
		}
	}
	return c.shim.channel.send(reply{Proceed: true})
}
