package shim

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"runch/agentproto"
	"runch/hooks"
	"runch/shimproto"
	"runch/storage"

	"golang.org/x/sync/errgroup"
)

// shares brings a container's files into its share: the sandbox's tree if this process
// is the holder, else requests to the holder.
type shares interface {
	Share(name string, mounts []storage.Mount) error
	Protect(name string) error
	Clones(name string) ([]storage.Mount, error)
}

// makeWithVM boots the sandbox's VM and makes its own container in it.
func (s *setup) makeWithVM(ctx context.Context, files Files) (*Task, *holder, error) {
	h, err := newHolder(s.VM, s.newVM, s.settle)
	if err != nil {
		return nil, nil, err
	}
	h.pod = &pod{done: make(chan struct{}), lasts: true}
	c, err := s.prepareWhileBooting(ctx, h)
	if err != nil {
		return nil, nil, err
	}
	client, streams, err := connect(ctx, h.vm, files)
	if err != nil {
		return nil, nil, err
	}
	if err := h.configure(ctx, client); err != nil {
		return nil, nil, err
	}
	task, err := s.createContainer(ctx, c, client, streams)
	if err != nil {
		return nil, nil, h.orLost("create the container", err)
	}
	// The guest has run a container's init, which may have changed the shared files. After
	// Leave, no path in them leads to a file of the host.
	if err := h.tree.Leave(); err != nil {
		return nil, nil, err
	}
	mounts, err := c.clones(h.tree)
	if err != nil {
		return nil, nil, err
	}
	defer storage.CloseMounts(mounts)
	if err := h.tree.EnterView(mounts, c.view()); err != nil {
		return nil, nil, fmt.Errorf("build the container's view: %w", err)
	}
	h.serve(ctx)
	if err := s.ready(h.ready()); err != nil {
		return nil, nil, err
	}
	return task, h, nil
}

// makeHolder boots the VM of a sandbox whose containers have shims of their own.
func (s *setup) makeHolder(ctx context.Context) (*holder, error) {
	h, err := newHolder(s.VM, s.newVM, s.settle)
	if err != nil {
		return nil, err
	}
	h.pod = watchPod(s.VM.Pinned)
	if err := h.boot(ctx, s.VM); err != nil {
		return nil, err
	}
	client, err := agentproto.Connect(ctx, h.vm)
	if err != nil {
		return nil, ofVM("reach the agent", err)
	}
	defer client.Close()
	if err := h.configure(ctx, client); err != nil {
		return nil, err
	}
	// The VMM stays in the tree and does not need /proc.
	if err := errors.Join(h.tree.Leave(), h.tree.DropProc()); err != nil {
		return nil, err
	}
	h.serve(ctx)
	return h, s.ready(h.ready())
}

// makeMember makes a container in a guest whose VM another process holds.
func (s *setup) makeMember(ctx context.Context, files Files) (*Task, error) {
	if err := storage.SlaveMounts(); err != nil {
		return nil, err
	}
	if err := s.awaitHooks(ctx); err != nil {
		return nil, err
	}
	c, err := s.prepareContainer(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	h := shimproto.Holder{Dir: s.Container.Holder}
	if s.Container.Attends {
		if s.attendance, err = h.Attend(); err != nil {
			return nil, err
		}
	}
	if err := c.share(h); err != nil {
		return nil, err
	}
	client, streams, err := connectInTime(ctx, s.Container.Guest, files)
	if err != nil {
		return nil, err
	}
	task, err := s.createContainer(ctx, c, client, streams)
	if err != nil {
		return nil, err
	}
	mounts, err := c.clones(h)
	if err != nil {
		return nil, err
	}
	defer storage.CloseMounts(mounts)
	if err := storage.EnterView(c.Rootfs, mounts, c.view()); err != nil {
		return nil, fmt.Errorf("build the container's view: %w", err)
	}
	if err := s.ready(&shimproto.Ready{}); err != nil {
		return nil, err
	}
	return task, nil
}

// container is a container that is being created.
type container struct {
	*shimproto.Container
	mounts    []storage.Mount
	submounts []string
	volumes   []*agentproto.Volume
}

// prepareWhileBooting shares the container's files while the VM boots: the guest does not
// use them before its hello. The command's hooks run first, because the VM boots with the
// links that they put into the network namespace. When the boot or the sharing fails, the
// other is cancelled.
func (s *setup) prepareWhileBooting(ctx context.Context, h *holder) (*container, error) {
	if err := s.awaitHooks(ctx); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.boot(ctx, s.VM) })
	var c *container
	group.Go(func() (err error) {
		if c, err = s.prepareContainer(ctx); err != nil {
			return err
		}
		defer c.close()
		return c.share(h.tree)
	})
	return c, group.Wait()
}

// prepareContainer runs the createContainer hooks and then clones the container's files,
// so that the guest gets what the hooks have mounted in the rootfs.
func (s *setup) prepareContainer(ctx context.Context) (*container, error) {
	c := &container{Container: s.Container}
	if c.Hooks != nil {
		if err := hooks.Run(ctx, "createContainer", c.Hooks.CreateContainer, c.Rootfs, c.Hooks.State); err != nil {
			return nil, err
		}
	}
	var err error
	if s.shortage, err = openShortage(s.Container); err != nil {
		return nil, err
	}
	if c.mounts, c.submounts, err = storage.Clone(c.Rootfs, c.Binds); err != nil {
		return nil, err
	}
	// The first is the rootfs.
	if c.volumes, err = volumesOf(c.Share, c.Binds, c.mounts[1:], c.submounts); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *container) close() { storage.CloseMounts(c.mounts) }

func (c *container) share(with shares) error {
	if err := with.Share(c.Share, c.mounts); err != nil {
		return err
	}
	c.close()
	c.mounts = nil
	return nil
}

// clones gives clones of the container's mounts once the guest has made the
// mount points in them.
func (c *container) clones(with shares) ([]storage.Mount, error) {
	if c.RootfsReadonly {
		if err := with.Protect(c.Share); err != nil {
			return nil, err
		}
	}
	return with.Clones(c.Share)
}

func (c *container) view() storage.View {
	return storage.View{Binds: c.Binds, Tmpfs: c.GuestOnly}
}

// createContainer makes the container in the guest.
func (s *setup) createContainer(ctx context.Context, c *container, client *agentproto.Client, streams *Streams) (*Task, error) {
	submounts := make([]string, len(c.submounts))
	for i, m := range c.submounts {
		submounts[i] = filepath.Join(c.Share, m)
	}
	_, err := client.CreateContainer(ctx, &agentproto.CreateContainerRequest{
		ContainerId: s.ID, Spec: c.Spec, Stdio: s.stdio(streams), NoNewKeyring: c.NoNewKeyring, NoPivot: c.NoPivot,
		TerminalSize: s.terminalSize(), Submounts: submounts, Bundle: c.Bundle,
		SharedNamespaces: c.SharedNamespaces, SharedMemory: c.SharedMemory, Share: s.Container.Share,
		Cpus:         uint32(c.CPUs), // #nosec G115 -- of hypervisor.Config, at most 255
		GuestDevices: c.GuestDevices, Volumes: c.volumes,
	})
	if err != nil {
		return nil, agentproto.FromAgent(err)
	}
	t := &Task{Container: s.ID, Agent: client, Streams: streams, Terminal: s.slave()}
	t.Watch(ctx, client.NextSent())
	return t, nil
}
