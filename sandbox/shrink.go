package sandbox

import (
	"context"
	"errors"
	"time"

	"runch/agentproto"
	"runch/cgroup"
	"runch/state"
)

// giveBackTimeout is how long a VM may take to give back memory and CPUs.
const giveBackTimeout = 30 * time.Second

// take shrinks the VM and sets the limits that were waiting for that.
func (u *update) take(ctx context.Context, first, limits cgroup.Limits) error {
	kept, err := u.shrink(ctx, limits, u.size)
	if err != nil {
		return err
	}
	if kept {
		limits = limits.WithoutMemory()
	}
	return u.group.Update(first, limits)
}

// takeBack undoes what give has given the VM and its cgroup. Like take, it first takes the
// memory, which the guest may have in use, and then sets the limits.
func (u *update) takeBack(ctx context.Context, before, limits cgroup.Limits, size state.VMSize) error {
	kept, err := u.shrink(ctx, before, size)
	if kept || err != nil {
		before, limits = before.WithoutMemory(), limits.WithoutMemory()
	}
	return errors.Join(err, u.group.Undo(before, limits))
}

// shrink makes the VM as small as to, and lowers the cgroup's limit of memory to that of
// limits once the guest has given back what is above it. If the guest keeps its memory to
// the end of the wait, kept is true and the cgroup keeps its limit: a lower one would kill
// the VM.
func (u *update) shrink(ctx context.Context, limits cgroup.Limits, to state.VMSize) (kept bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, giveBackTimeout+callTimeout)
	defer cancel()
	// Stop waiting if the member is killed: the VM lives on, and may keep the memory.
	alive, cancel := whileAlive(ctx, u.container.Shim)
	defer cancel()
	waiting, cancel := context.WithTimeout(alive, giveBackTimeout)
	defer cancel()
	// Take the CPUs first: the fewer CPUs a guest has to ask about each page, the sooner
	// its memory comes back.
	fewer := state.VMSize{CPUs: to.CPUs, MemoryMiB: u.sandbox.record.Now.MemoryMiB}
	var reason error
	for _, size := range []state.VMSize{fewer, to} {
		if size == u.sandbox.record.Now {
			continue
		}
		if err := u.sandbox.resize(size); err != nil {
			return false, err
		}
		reason = u.awaitSize(waiting, size)
	}
	if reason == nil {
		reason = u.group.LowerMemory(waiting, limits)
	}
	if reason != nil {
		u.r.Log.Warn("the guest has not given back all that it is to have no longer, so the host's limit of memory stays; update again when it has", "reason", reason)
	}
	return reason != nil, nil
}

// awaitSize waits for the guest to give back what the VM is to have no longer. The guest
// needs CPU time for that, and memory to which it moves what is in use, so the host's
// limits of both are lowered only afterwards.
func (u *update) awaitSize(ctx context.Context, size state.VMSize) error {
	return u.r.call(ctx, u.container, func(ctx context.Context, agent agentproto.AgentService) error {
		_, err := agent.AwaitSize(ctx, &agentproto.AwaitSizeRequest{
			Cpus: uint32(size.CPUs), MemoryBytes: uint64(size.MemoryMiB) << 20, // #nosec G115 -- at most 255 CPUs, and no size is negative
		})
		return err
	})
}
