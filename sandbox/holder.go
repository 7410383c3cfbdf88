package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"runch/cgroup"
	"runch/namespace"
	"runch/oci"
	"runch/shimproto"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ErrSandboxStopped says that a container's sandbox exists, but its VM does not run.
var ErrSandboxStopped = errors.New("the pod's sandbox has stopped")

// openSandbox locks the running sandbox that a container is to join. In a pod without a
// container of its own, the first member starts the holder; a later member starts
// another one if the VM was lost.
func (r *Runtime) openSandbox(ctx context.Context, c *creation) (*lockedSandbox, error) {
	id := c.place.sandbox
	for {
		s, err := r.awaitSandbox(ctx, id)
		switch {
		case errors.Is(err, state.ErrNotExist):
			if err := r.removeUnrecorded(ctx, id); err != nil {
				return nil, err
			}
			s, err = r.startHolder(ctx, c, nil)
			if errors.Is(err, state.ErrExist) {
				continue // another member was faster
			}
			return s, err
		case err != nil:
			return nil, err
		case s.record.Running():
			if s, err = s.checkNetwork(ctx, c.host); s != nil || err != nil {
				return s, err
			}
			continue
		case s.record.Owner != "":
			return nil, errors.Join(fmt.Errorf("%w: %s", ErrSandboxStopped, id), s.Close())
		}
		members := s.record.Members
		if err := s.end(ctx); err != nil {
			return nil, err
		}
		s, err = r.startHolder(ctx, c, members)
		if !errors.Is(err, state.ErrExist) {
			return s, err
		}
	}
}

// checkNetwork returns the sandbox if its network namespace is the one that the container
// names. Otherwise it releases the lock and returns nil. If the holder was just ending,
// checkNetwork waits for its end, and there is no error.
func (s *lockedSandbox) checkNetwork(ctx context.Context, host *oci.HostPart) (*lockedSandbox, error) {
	wanted := host.Namespaces[specs.NetworkNamespace]
	at, err := os.Stat(wanted)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	is, err := os.Stat(netNSOf(s.record))
	switch {
	case err == nil && os.SameFile(at, is):
		return s, nil
	case err == nil:
		err = fmt.Errorf("cannot join the network namespace %s: the sandbox %s has another", wanted, s.record.ID)
	case errors.Is(err, os.ErrNotExist):
		err = s.record.Holder.AwaitEnd(ctx)
	}
	return nil, errors.Join(err, s.Close())
}

// startHolder makes a sandbox that belongs to no container: a process that boots
// the VM and holds it. members are those of the VM that was there before.
func (r *Runtime) startHolder(ctx context.Context, c *creation, members map[string]state.Member) (*lockedSandbox, error) {
	pod := podSpec(c.o.Bundle, c.place.sandbox)
	vm, err := r.planHolder(c, pod.Annotations)
	if err != nil {
		return nil, err
	}
	s, err := r.newSandbox(ctx, c.place, "", vm, c.host)
	if err != nil {
		return nil, err
	}
	if members != nil {
		s.record.Members = members
	}
	s.record.Sysctl = pod.Linux.Sysctl
	p, err := s.spawnHolder(c.host)
	if err == nil {
		err = s.bootHolder(ctx, c, p, &vm.VM)
	}
	if err == nil {
		return s, nil
	}
	if p != nil {
		p.undo()
	}
	err = s.withLogs(err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goneTimeout)
	defer cancel()
	if undo := s.end(ctx); undo != nil {
		err = fmt.Errorf("%w; and undoing it: %w", err, undo)
	}
	return nil, err
}

// podSpec is the spec of a pod without a container of its own: the one that CRI-O writes
// for a sandbox container that it does not make, or else only a member's annotations.
func podSpec(b *oci.Bundle, pod string) *specs.Spec {
	if spec := oci.DroppedSandbox(b.Dir, pod); spec != nil && spec.Linux != nil {
		return spec
	}
	return &specs.Spec{Annotations: b.Spec.Annotations, Linux: &specs.Linux{}}
}

// planHolder plans the VM of a pod that has no container of its own.
func (r *Runtime) planHolder(c *creation, annotations map[string]string) (*plannedVM, error) {
	size, err := r.sizingOf(r.holderCgroup(c.host, c.o.ID, c.place.sandbox), annotations)
	if err != nil {
		return nil, err
	}
	vm, err := r.vmFor(c.host.SelinuxLabel, size, annotations)
	if err != nil {
		return nil, err
	}
	vm.Pinned = c.host.Namespaces[specs.NetworkNamespace]
	return vm, nil
}

func (s *lockedSandbox) spawnHolder(host *oci.HostPart) (*shimProcess, error) {
	return spawn(shimSpec{
		unshare: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		join:    []namespace.Namespace{{Kind: unix.CLONE_NEWNET, Path: host.Namespaces[specs.NetworkNamespace]}},
	})
}

// bootHolder puts the holder into the sandbox's cgroup and lets it boot the VM.
func (s *lockedSandbox) bootHolder(ctx context.Context, c *creation, p *shimProcess, vm *shimproto.VM) error {
	holder, err := state.ProcessOf(p.pid())
	if err != nil {
		return fmt.Errorf("identify the holder: %w", err)
	}
	group, made, err := s.r.newCgroup(s.r.holderCgroup(c.host, c.o.ID, s.record.ID), cgroup.Limits{}, nil)
	if err != nil {
		return err
	}
	s.record.Holder, s.record.Cgroup = holder, made
	if err := s.Save(s.record); err != nil {
		return err
	}
	if s.record.Cgroup, err = c.enterCgroup(group, made, holder.PID); err != nil {
		return err
	}
	if s.record.Cgroup.Path == "" {
		if err := s.Save(s.record); err != nil {
			return err
		}
	}
	if err := setOOMScoreAdj(holder.PID, c.host.OOMScoreAdj); err != nil {
		return err
	}
	if err := p.send(ctx, &shimproto.Setup{ID: s.record.ID, Timeout: setupTimeout(s.r.Config.BootTimeout), VM: vm}); err != nil {
		return err
	}
	ready, err := p.await(ctx)
	if err != nil {
		return err
	}
	if err := s.setReady(ready); err != nil {
		return err
	}
	return handOver(p, "")
}
