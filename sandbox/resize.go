package sandbox

import (
	"context"
	"errors"
	"fmt"

	"runch/agentproto"
	"runch/cgroup"
	"runch/state"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// resize brings the VM to a size, and remembers it.
func (s *lockedSandbox) resize(to state.VMSize) error {
	now := s.record.Now
	if to == now {
		return nil
	}
	// A value that stays is left out: the VMM may have refused it before.
	var size state.VMSize
	if to.CPUs != now.CPUs {
		size.CPUs = to.CPUs
	}
	if to.MemoryMiB != now.MemoryMiB {
		size.MemoryMiB = to.MemoryMiB
	}
	if err := s.holder().Resize(size); err != nil {
		return fmt.Errorf("resize the VM: %w", err)
	}
	s.record.Now = to
	return s.Save(s.record)
}

// awaitMemory waits until the guest's kernel uses the memory that was added since the VM
// had the size before. The limits of the host's cgroup have to be raised first: to keep
// account of the new pages, the guest's kernel touches memory.
func (s *lockedSandbox) awaitMemory(ctx context.Context, agent agentproto.AgentService, before state.VMSize) error {
	if s.record.Now.MemoryMiB <= before.MemoryMiB {
		return nil
	}
	more := s.record.Now.MemoryMiB - s.record.Boot.MemoryMiB
	_, err := agent.AwaitMemory(ctx, &agentproto.AwaitMemoryRequest{More: uint64(more) << 20}) // #nosec G115 -- no VM is less than at its boot
	if status.Code(err) == codes.Unimplemented {
		return nil // an older runch's agent: it uses added memory, but cannot tell when
	}
	return err
}

// raiseLimits sets the limits of the sandbox's cgroup for its members as they are now;
// before are the limits for the members that there were. A limit of memory is not set
// while more than that is in use: the cgroup then keeps the one that it has.
func (s *lockedSandbox) raiseLimits(before cgroup.Limits) error {
	group, err := openCgroup(s.record.Cgroup)
	if err != nil {
		return err
	}
	after := hostLimits(s.record)
	err = group.CheckMemory(after)
	if err != nil && !errors.Is(err, cgroup.ErrMemoryHeld) {
		return err
	}
	if err != nil {
		after = after.WithoutMemory()
	}
	return group.Update(before, after)
}

// makeRoom makes a running VM, and its cgroup on the host, large enough for its members.
// before are the limits for the members that there were. When makeRoom returns, the
// guest's kernel uses the memory that was added.
func (s *lockedSandbox) makeRoom(ctx context.Context, before cgroup.Limits) error {
	size, err := sizeFor(s.record)
	if err != nil {
		return err
	}
	now := s.record.Now
	if err := s.resize(grown(now, size)); err != nil {
		return err
	}
	if err := s.raiseLimits(before); err != nil {
		return err
	}
	if err := s.Save(s.record); err != nil || s.record.Now.MemoryMiB == now.MemoryMiB {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, err := connectTo(ctx, s.record.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	return agentproto.FromAgent(s.awaitMemory(ctx, client, now))
}

// giveBack makes the VM smaller once a member has gone. It does not wait until the guest
// has released memory or CPUs, and the guest may keep them. cloud-hypervisor refuses to
// resize as long as the guest has yet to release CPUs of an earlier resize; the VM then
// keeps its size.
func (s *lockedSandbox) giveBack(before cgroup.Limits) error {
	size, err := sizeFor(s.record)
	if err != nil {
		return err
	}
	if err := s.resize(size); err != nil {
		return err
	}
	return s.raiseLimits(before)
}
