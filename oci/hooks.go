package oci

import (
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Names of the hooks, in the order in which they run.
const (
	hookPrestart        = "prestart"
	hookCreateRuntime   = "createRuntime"
	hookCreateContainer = "createContainer"
	hookStartContainer  = "startContainer"
	hookPoststart       = "poststart"
	hookPoststop        = "poststop"
)

// namedHooks is a kind of hook with its hooks.
type namedHooks struct {
	name  string
	hooks []specs.Hook
}

func allHooks(h *specs.Hooks) []namedHooks {
	if h == nil {
		return nil
	}
	return []namedHooks{
		{hookPrestart, h.Prestart},
		{hookCreateRuntime, h.CreateRuntime},
		{hookCreateContainer, h.CreateContainer},
		{hookStartContainer, h.StartContainer},
		{hookPoststart, h.Poststart},
		{hookPoststop, h.Poststop},
	}
}

// validateHooks checks hooks by the runtime spec's "POSIX-platform Hooks".
func validateHooks(h *specs.Hooks) error {
	for _, kind := range allHooks(h) {
		for i, hook := range kind.hooks {
			field := index("hooks."+kind.name, i)
			if !filepath.IsAbs(hook.Path) {
				return fieldErrorf(field+".path", "%q is not an absolute path", hook.Path)
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				return fieldErrorf(field+".timeout", "%d is not greater than zero", *hook.Timeout)
			}
		}
	}
	return nil
}

// splitHooks gives the host all hooks but startContainer. createContainer is
// the host's as well: the runtime spec has its path resolved in the runtime's
// namespace, and what such hooks prepare (mounts in the rootfs, devices,
// network) is on the host.
func splitHooks(h *specs.Hooks) (host, guest *specs.Hooks) {
	if h == nil {
		return nil, nil
	}
	if len(h.StartContainer) > 0 {
		guest = &specs.Hooks{StartContainer: h.StartContainer}
	}
	rest := *h
	rest.StartContainer = nil
	for _, kind := range allHooks(&rest) {
		if len(kind.hooks) > 0 {
			return &rest, guest
		}
	}
	return nil, guest
}
