package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"runch/oci"
	"runch/program"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Fallback is a runtime with runc's command line to which containers are passed on. They
// are in no VM.
type Fallback struct {
	// Program is its absolute path.
	Program string
	// Root is the directory with its containers' state, for its flag --root.
	Root string
}

// Args are the arguments for a call of the runtime, with Program as the first: flags are
// global flags, command is the command with its arguments.
func (f *Fallback) Args(flags []string, command ...string) []string {
	args := append([]string{f.Program, "--root", f.Root}, flags...)
	return append(args, command...)
}

// knows tells whether the runtime has state of a container. runc and crun keep that in a
// directory with the container's id as its name.
func (f *Fallback) knows(id string) bool {
	_, err := os.Lstat(filepath.Join(f.Root, id))
	return !errors.Is(err, fs.ErrNotExist)
}

func (r *Runtime) fallbackOf(c *state.Container) *Fallback {
	if c.Fallback == "" {
		return nil
	}
	return &Fallback{Program: c.Fallback, Root: r.Store.FallbackRoot(c.Fallback)}
}

// FallbackOf gives the runtime that a container was passed on to, nil where it is in a
// VM, or not there.
//
// The record of such a container says only which runtime to ask. It is written before the
// runtime takes over this process (execve(2)), and may outlive the container: the runtime's
// create may fail or be killed, and its run deletes the container. FallbackOf removes a
// record without a container.
func (r *Runtime) FallbackOf(ctx context.Context, id string) *Fallback {
	c, err := r.Store.Load(id)
	if err != nil {
		return nil // whoever needs the record says what is wrong with it
	}
	f := r.fallbackOf(c)
	if f == nil || !f.lost(c) {
		return f
	}
	if err := r.forget(ctx, id, (*Fallback).lost); err != nil {
		r.Log.Debug("the record of a container stays that its runtime does not know any more", "container", id, "reason", err)
	}
	return nil
}

// lost tells whether a container is gone although its record is there. The creator in the
// record is the process of the runtime's create or run: the runtime took over the process
// of the command that wrote the record.
func (f *Fallback) lost(c *state.Container) bool {
	return !c.Creator.Alive() && !f.knows(c.ID)
}

// PassOn decides which runtime gets a new container. The result is nil if the container is
// to be in a VM. Otherwise PassOn has written the container's record, and the caller
// replaces this process by the runtime (execve(2)) or, if that fails, calls Forget. The
// error is state.ErrExist if the id is in use.
func (r *Runtime) PassOn(ctx context.Context, id string, b *oci.Bundle) (*Fallback, error) {
	r.FallbackOf(ctx, id) // removes a record of this id whose container is lost
	f, err := r.chooseFallback(ctx, id, b.Spec)
	if f == nil || err != nil {
		return nil, err
	}
	creator, err := state.Self()
	if err != nil {
		return nil, fmt.Errorf("identify this process: %w", err)
	}
	dir, err := r.newDir(ctx, id)
	if err != nil {
		return nil, err
	}
	err = dir.Save(&state.Container{
		Creator: creator, ID: id, Fallback: f.Program, OCIVersion: b.Spec.Version, Bundle: b.Dir,
		Created: time.Now().UTC(), Annotations: b.Spec.Annotations, Owner: owner(),
	})
	if err != nil {
		return nil, errors.Join(err, dir.Remove())
	}
	return f, dir.Close()
}

// chooseFallback decides by what the container asks for. A member of a pod that exists
// goes where the pod is.
func (r *Runtime) chooseFallback(ctx context.Context, id string, spec *specs.Spec) (*Fallback, error) {
	if pod := podOf(id, spec); pod != "" {
		if f := r.FallbackOf(ctx, pod); f != nil {
			return f, nil
		}
	}
	if r.Config.FallbackRuntime == "" || !r.wantsOutside(id, spec) {
		return nil, nil
	}
	program, err := FindFallback(r.Config.FallbackRuntime)
	if err != nil {
		return nil, err
	}
	return &Fallback{Program: program, Root: r.Store.FallbackRoot(program)}, nil
}

// podOf is the id of the pod's first container, which need not be there; "" where the
// container is a member of no pod.
func podOf(id string, spec *specs.Spec) string {
	role, pod, err := oci.RoleOf(id, spec.Annotations)
	if err != nil || role != oci.Member && role != oci.MemberOrAlone {
		return "" // wrong annotations are refused with what else is wrong with the spec
	}
	return pod
}

// wantsOutside tells whether a container needs a namespace outside of every VM, and none
// inside of one. A member of a pod that has a VM belongs there, whatever it asks for.
func (r *Runtime) wantsOutside(id string, spec *specs.Spec) bool {
	if spec.Linux == nil || r.hasVM(podOf(id, spec)) {
		return false
	}
	outside := oci.WantsHost(spec)
	peers := r.peers(spec.Linux.Namespaces)
	role, _, err := oci.RoleOf(id, spec.Annotations)
	alone := err == nil && (role == oci.Alone || role == oci.MemberOrAlone)
	for _, ns := range spec.Linux.Namespaces {
		if ns.Path == "" {
			continue
		}
		t, err := peers.target(ns)
		if t.container != nil {
			return false
		}
		outside = outside || errors.Is(err, oci.ErrOutside) || err == nil && isForeign(ns, alone)
	}
	return outside
}

// hasVM tells whether there is a VM of a pod.
func (r *Runtime) hasVM(pod string) bool {
	if pod == "" {
		return false
	}
	_, first := r.Store.Load(pod)
	_, sandbox := r.Store.LoadSandbox(pod)
	return first == nil || sandbox == nil
}

// isForeign tells whether a namespace that belongs to no container is foreign to this one,
// too. The caller makes a network namespace in a file for the container, and any namespace
// in a file for the pod if the container is in one. All other namespaces are foreign.
func isForeign(ns specs.LinuxNamespace, alone bool) bool {
	_, ofProcess := procPID(ns.Path)
	return ofProcess || alone && ns.Type != specs.NetworkNamespace
}

// Explain adds to the error of a container that is refused for its namespaces
// (oci.ErrOutside) the setting with which it would run. Other errors stay as they are.
func (r *Runtime) Explain(id string, spec *specs.Spec, err error) error {
	if !errors.Is(err, oci.ErrOutside) || r.Config.FallbackRuntime != "" || !r.wantsOutside(id, spec) {
		return err
	}
	return fmt.Errorf("%w: set fallback_runtime to have it run by runc, without a VM", err)
}

// FindFallback gives the absolute path of a fallback runtime's program. runtime is that
// path, or a name that program.Find finds.
func FindFallback(runtime string) (string, error) {
	found := program.Find(runtime)
	switch {
	case found == "":
		// Leave out the text of errno: callers would think that the container's own
		// program is missing.
		return "", fmt.Errorf("fallback_runtime: there is no program %q: install it, or change the setting", runtime)
	case IsThisProgram(found):
		return "", fmt.Errorf("fallback_runtime: %s is runch itself", found) // it would pass containers on for ever
	}
	return found, nil
}

// IsThisProgram tells whether a path leads to the program that runs.
func IsThisProgram(path string) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	here, err := os.Stat("/proc/self/exe")
	return err == nil && os.SameFile(here, there)
}
