package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"runch/network"
	"runch/oci"
	"runch/shimproto"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// lockedSandbox is a sandbox whose record was read, or made, under its lock: it may
// be changed until Close.
type lockedSandbox struct {
	*state.SandboxDir
	r      *Runtime
	record *state.Sandbox
}

// lockSandbox takes a sandbox's lock and reads its record. The error wraps
// state.ErrNotExist where there is no such sandbox.
func (r *Runtime) lockSandbox(ctx context.Context, id string) (*lockedSandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return r.awaitSandbox(ctx, id)
}

// awaitSandbox is lockSandbox, but waits until ctx ends: the command that has the lock
// may be booting the VM.
func (r *Runtime) awaitSandbox(ctx context.Context, id string) (*lockedSandbox, error) {
	dir, err := r.Store.LockSandbox(ctx, id)
	if err != nil {
		return nil, err
	}
	record, err := dir.Load()
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &lockedSandbox{SandboxDir: dir, r: r, record: record}, nil
}

// newSandbox makes the directory and the record of a sandbox, whose VM does not run
// yet. owner is the container whose shim will hold it, empty for none.
func (r *Runtime) newSandbox(ctx context.Context, p *place, owner string, vm *plannedVM, host *oci.HostPart) (*lockedSandbox, error) {
	id := p.sandbox
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	dir, err := r.Store.NewSandbox(ctx, id)
	if err != nil {
		return nil, err
	}
	s := &lockedSandbox{SandboxDir: dir, r: r, record: &state.Sandbox{
		ID: id, Owner: owner, Pod: p.pod, VMM: vm.Driver, Boot: vm.VMSize, Now: vm.VMSize,
		Default: vm.standard, MaxCPUs: vm.MaxCPUs, MaxMemoryMiB: vm.MaxMemoryMiB,
		OverheadMiB: vm.overheadMiB, Overhead: int64(vm.overheadMiB+r.Config.VMMOverheadMiB) << 20,
		Members: make(map[string]state.Member), Network: state.Network{NetNS: host.Namespaces[specs.NetworkNamespace]},
		LogDir: r.Config.LogDir, BootTimeout: r.Config.BootTimeout,
	}}
	vm.Sandbox, vm.Dir = id, dir.Path()
	err = dir.Save(s.record)
	if err == nil {
		err = os.Mkdir(filepath.Join(dir.Path(), shimproto.TreeDir), 0o700)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the sandbox's directory: %w", err), dir.Remove())
	}
	return s, nil
}

// admit makes a container a member. If the VM runs, admit also makes it, and its cgroup
// on the host, large enough for the container.
func (s *lockedSandbox) admit(ctx context.Context, c *state.Container) error {
	if s.record.Members == nil {
		s.record.Members = make(map[string]state.Member)
	}
	m := state.Member{Resources: c.Resources, Share: c.Share}
	if !s.record.Running() {
		s.record.Members[c.ID] = m
		return s.Save(s.record)
	}
	before := hostLimits(s.record)
	s.record.Members[c.ID] = m
	return s.makeRoom(ctx, before)
}

// setShim records the shim of a member. A shim that holds the VM is recorded, with its
// cgroup, as the sandbox's holder, too.
func (s *lockedSandbox) setShim(c *state.Container) error {
	m := s.record.Members[c.ID]
	m.Shim = c.Shim
	s.record.Members[c.ID] = m
	if s.record.Owner == c.ID {
		s.record.Holder, s.record.Cgroup = c.Shim, c.Cgroup
	}
	return s.Save(s.record)
}

// setReady records the guest's endpoint and the taps, once the guest runs.
func (s *lockedSandbox) setReady(ready *shimproto.Ready) error {
	s.record.Endpoint = ready.Endpoint
	s.record.Network.Taps = ready.Taps
	if ready.NoLocalhost != "" {
		s.r.Log.Debug("the guest is not reached by localhost of its network namespace", "sandbox", s.record.ID, "reason", ready.NoLocalhost)
	}
	s.noAnswers(ready.NoAnswers)
	return s.Save(s.record)
}

// noAnswers logs why the host's own sockets in the network namespace get no answers over
// its links. An empty reason means that they do.
func (s *lockedSandbox) noAnswers(reason string) {
	if reason != "" {
		s.r.Log.Debug("the host's own sockets in the network namespace get no answers", "sandbox", s.record.ID, "reason", reason)
	}
}

// leave takes a container out of its sandbox: it removes the container's files from the
// shared tree, and takes its part of the memory and CPUs from the VM. A sandbox with an
// owner ends with the owner, any other with its last member. leave releases the lock.
func (s *lockedSandbox) leave(ctx context.Context, c *state.Container) error {
	if s.record.Owner == c.ID {
		return s.end(ctx)
	}
	before := hostLimits(s.record)
	delete(s.record.Members, c.ID)
	if isAbandoned(s.record) {
		return s.end(ctx)
	}
	defer s.Close()
	if !s.record.Running() {
		return s.Save(s.record)
	}
	if err := s.unshare(ctx, c.Share); err != nil {
		return err
	}
	if err := s.Save(s.record); err != nil {
		return err
	}
	if err := s.giveBack(before); err != nil {
		s.r.Log.Debug("the VM keeps the size that it had", "sandbox", s.record.ID, "reason", err)
	}
	return nil
}

// isAbandoned says that a sandbox belongs to no container and that none is in it. Under
// the sandbox's lock this is never true of one that is still being made: its create keeps
// the lock until the first member is admitted, or until it fails.
func isAbandoned(s *state.Sandbox) bool { return s.Owner == "" && len(s.Members) == 0 }

// unshare takes a member's files out of the shared tree. It is no error if the tree has
// ended with its holder: the pod's first container may be stopped at the same time. A
// holder closes its sockets some time before it has ended, so unshare waits for its end.
func (s *lockedSandbox) unshare(ctx context.Context, share string) error {
	if share == "" {
		// The record of an older runch does not name the share: the files stay as long
		// as the VM does.
		return nil
	}
	err := s.holder().Unshare(share)
	if errors.Is(err, shimproto.ErrHolderGone) {
		ctx, cancel := context.WithTimeout(ctx, goneTimeout)
		defer cancel()
		if alive := s.record.Holder.AwaitEnd(ctx); alive != nil {
			return fmt.Errorf("%w: %w", err, alive)
		}
	}
	if err != nil && s.record.Running() {
		return err
	}
	return nil
}

// end ends the VM and removes what the sandbox has on the host. Its lock is given
// up. After an error the record stays, for another delete.
func (s *lockedSandbox) end(ctx context.Context) error {
	defer s.Close()
	killCtx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	if err := s.record.Holder.Kill(killCtx); err != nil {
		return err
	}
	var errs []error
	if ns := s.record.Network.NetNS; ns != "" {
		errs = append(errs, network.Detach(ctx, ns))
	}
	// The cgroup of an owner is removed with that container.
	if s.record.Owner == "" {
		errs = append(errs, destroyCgroup(ctx, s.record.Cgroup))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.tellLost()
	return s.Remove()
}

// holder is the sandbox's holder, which changes the VM and the shared tree on request.
func (s *lockedSandbox) holder() shimproto.Holder { return shimproto.Holder{Dir: s.Path()} }

// netNSOf is the path of a sandbox's network namespace while it runs.
func netNSOf(s *state.Sandbox) string {
	return nsPath(s.Holder.PID, "net")
}
