package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"runch/agentproto"
	"runch/cgroup"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes a container's resources: the limits of its cgroup in the guest
// are exact, those of the host's cgroups have the overhead added, and the VM has
// the CPUs and the memory for all its containers. What change does not name stays
// as it is.
func (r *Runtime) Update(ctx context.Context, id string, change *specs.LinuxResources) error {
	dir, c, err := r.lockAndLoad(ctx, id)
	if err != nil {
		return err
	}
	defer dir.Close()
	if !hasGuest(c) {
		return state.ErrNotRunning
	}
	u := &update{r: r, dir: dir, container: c}
	if u.host, u.guest, err = oci.SplitUpdate(c.Resources, change); err != nil {
		return err
	}
	if field := heldByHost(change); field != "" && c.Cgroup.Path == "" {
		return fmt.Errorf("%s %w", field, errNoCgroup)
	}
	if u.sandbox, err = r.lockSandbox(ctx, c.Sandbox); err != nil {
		return err
	}
	defer u.sandbox.Close()
	if err := u.prepare(); err != nil {
		return err
	}
	return u.run(ctx)
}

// update is one Update.
type update struct {
	r         *Runtime
	dir       *state.Dir
	container *state.Container
	sandbox   *lockedSandbox
	// host is what the host is to hold for the container, guest the change for the
	// guest's cgroup.
	host, guest *specs.LinuxResources
	// guestJSON is guest as the agent is given it.
	guestJSON []byte
	// group is the sandbox's cgroup on the host, nil where it has none.
	group *cgroup.Cgroup
	// own is the container's own cgroup, with only its shims in it. It is nil for the
	// sandbox's owner, whose cgroup is group.
	own *cgroup.Cgroup
	// size is what the VM is to have.
	size state.VMSize
}

// prepare does what can fail before anything is changed.
func (u *update) prepare() error {
	var err error
	if u.guestJSON, err = json.Marshal(u.guest); err != nil {
		return fmt.Errorf("encode the resources: %w", err)
	}
	if u.group, err = openCgroup(u.sandbox.record.Cgroup); err != nil {
		return err
	}
	if u.sandbox.record.Owner != u.container.ID {
		u.own, err = openCgroup(u.container.Cgroup)
	}
	return err
}

// run gives before it takes. The VM grows first. What the container is to have no longer
// is first limited by the guest's cgroup, then taken from the VM, and only then limited by
// the host's cgroup. If giving fails, everything is left as it was.
func (u *update) run(ctx context.Context) error {
	record := u.sandbox.record
	before := hostLimits(record)
	u.setResources(u.host)
	limits := hostLimits(record)
	var err error
	if u.size, err = sizeFor(record); err != nil {
		u.setResources(u.container.Resources)
		return err
	}
	lessCPUs, lessMemory := u.size.CPUs < record.Now.CPUs, u.size.MemoryMiB < record.Now.MemoryMiB
	takes, err := takesMemory(u.group, before, limits)
	if err != nil {
		u.setResources(u.container.Resources)
		return err
	}
	first := limits
	if lessMemory = lessMemory || takes; lessMemory {
		first, before = first.WithoutMemory(), before.WithoutMemory()
	}
	if lessMemory || lessCPUs { // giving either back takes CPU time
		first, before = first.WithoutQuota(), before.WithoutQuota()
	}
	if err := u.give(ctx, before, first); err != nil {
		u.setResources(u.container.Resources)
		return errors.Join(err, u.sandbox.Save(record))
	}
	if !lessMemory && !lessCPUs {
		return nil
	}
	return u.take(ctx, first, limits)
}

// setResources sets the container's resources in the sandbox's record.
func (u *update) setResources(r *specs.LinuxResources) {
	m := u.sandbox.record.Members[u.container.ID]
	m.Resources = r
	u.sandbox.record.Members[u.container.ID] = m
}

// takesMemory says whether the host's limit of memory can be set only after the guest has
// given memory back: because it is lower than before, or because more than it allows is
// in use.
func takesMemory(group *cgroup.Cgroup, before, limits cgroup.Limits) (bool, error) {
	if cgroup.TakesMemory(before, limits) {
		return true, nil
	}
	err := group.CheckMemory(limits)
	if errors.Is(err, cgroup.ErrMemoryHeld) { // since an earlier update, which warned of it
		return true, nil
	}
	return false, err
}

// give makes the VM large enough for the old and the new limits, and sets the new ones of
// the cgroups. If that fails, it undoes what it has done.
func (u *update) give(ctx context.Context, before, limits cgroup.Limits) error {
	size := u.sandbox.record.Now
	if err := u.sandbox.resize(grown(size, u.size)); err != nil {
		return err
	}
	if err := u.group.Update(before, limits); err != nil {
		return undone(err, u.sandbox.resize(size))
	}
	if err := u.setLimits(ctx, size); err != nil {
		return undone(err, u.takeBack(ctx, before, limits, size))
	}
	u.container.Resources = u.host
	return errors.Join(u.dir.Save(u.container), u.sandbox.Save(u.sandbox.record))
}

// setLimits sets the limits of the container's own cgroup on the host and of its cgroup
// in the guest, or neither. size is what the VM had before it grew: the guest's limits
// are set once its kernel uses the memory that was added since.
func (u *update) setLimits(ctx context.Context, size state.VMSize) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c := u.container
	before := cgroup.Limits{Resources: c.Resources, Overhead: c.Overhead}
	limits := cgroup.Limits{Resources: u.host, Overhead: c.Overhead}
	if err := u.own.Update(before, limits); err != nil {
		return err
	}
	err := u.r.call(ctx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		if err := u.sandbox.awaitMemory(ctx, agent, size); err != nil {
			return err
		}
		_, err := agent.Update(ctx, &agentproto.UpdateRequest{
			ContainerId: c.ID, Resources: u.guestJSON, Cpus: uint32(u.size.CPUs), // #nosec G115 -- at most config's max_cpus, 255
		})
		return err
	})
	if err != nil {
		return undone(err, u.own.Undo(before, limits))
	}
	return nil
}

// undone adds to err what went wrong when the work was undone after it, if anything did.
func undone(err, undo error) error {
	if undo == nil {
		return err
	}
	return fmt.Errorf("%w; and undoing it: %w", err, undo)
}
