package agent

import (
	"context"

	"github.com/opencontainers/runc/libcontainer"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// CreateContainer makes a container whose process waits for StartContainer.
func (a *Agent) CreateContainer(ctx context.Context, req *agentproto.CreateContainerRequest) (*agentproto.CreateContainerResponse, error) {
	spec, err := checkCreate(req)
	if err != nil {
		return nil, err
	}
	if err := a.configuration.ready(); err != nil {
		return nil, err
	}
	if req.GetGuestDevices() {
		if err := addGuestDevices(spec.Linux); err != nil {
			return nil, err
		}
	}
	if cpus := req.GetCpus(); cpus > 0 {
		if err := takeCPUs(ctx, int(cpus)); err != nil {
			return nil, err
		}
	}
	id := req.GetContainerId()
	if err := a.table.reserve(ctx, id); err != nil {
		return nil, err
	}
	c, err := a.create(ctx, req, spec)
	a.table.release(id, c)
	if err != nil {
		return nil, err
	}
	a.timeline.mark(func(t *agentproto.Timeline) *uint64 { return &t.ContainerCreatedNs })
	return &agentproto.CreateContainerResponse{Pid: int32(c.init.pid)}, nil // #nosec G115 -- a pid
}

func checkCreate(req *agentproto.CreateContainerRequest) (*specs.Spec, error) {
	if err := checkID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := checkSize(req.GetTerminalSize()); err != nil {
		return nil, err
	}
	spec, err := decodeSpec(req.GetSpec())
	if err != nil {
		return nil, err
	}
	if err := checkShare(req.GetShare()); err != nil {
		return nil, err
	}
	if err := checkShared(req, spec.Linux); err != nil {
		return nil, err
	}
	if err := checkMemory(req.GetSharedMemory()); err != nil {
		return nil, err
	}
	if err := checkVolumes(req.GetShare(), req.GetVolumes()); err != nil {
		return nil, err
	}
	return spec, checkStdio(req.GetStdio(), spec.Process.Terminal)
}

// create makes the container, whose id is reserved. It gives a container or an
// error, never both.
func (a *Agent) create(ctx context.Context, req *agentproto.CreateContainerRequest, spec *specs.Spec) (*container, error) {
	lp, err := newProcess(spec.Process, req.GetTerminalSize(), a.debug)
	if err != nil {
		return nil, err
	}
	lp.Init = true
	conns, err := a.streams.claimAll(ctx, req.GetStdio())
	if err != nil {
		return nil, err
	}
	if err := a.memory.take(req.GetSharedMemory()); err != nil {
		conns.close()
		return nil, err
	}
	shared, err := a.namespaces.join(ctx, req.GetSharedNamespaces(), spec.Linux, a.table.get)
	if err != nil {
		conns.close()
		a.letGo(req.GetSharedMemory())
		return nil, err
	}
	c, io, err := a.prepare(ctx, req, spec, lp, conns, shared)
	if err != nil {
		a.remove(req, c)
		shared.finish(err)
		return nil, err
	}
	start := func() (*process, error) {
		p, err := a.startProcess(c.lc, lp, io)
		if err = shared.explain(err); err != nil {
			a.remove(req, c)
		}
		shared.finish(err)
		return p, err
	}
	c.init, err = a.launch(ctx, start, func(p *process) {
		a.discard(p)
		a.remove(req, c)
	})
	if err != nil {
		return nil, err
	}
	c.handles = append(c.handles, c.lc)
	go a.watchInit(c)
	a.expectWait(c, "", c.init)
	return c, nil
}

// prepare makes everything of a container except its process. With an error it may
// also give a container, which the caller removes.
func (a *Agent) prepare(ctx context.Context, req *agentproto.CreateContainerRequest, spec *specs.Spec, lp *libcontainer.Process, conns *conns, shared *sharing) (*container, *stdio, error) {
	c, err := a.newContainer(req, spec)
	if err != nil {
		conns.close()
		return nil, nil, err
	}
	c.whenNamespaced(shared.pin)
	if shared.network {
		c.whenNamespaced(func(pid int) error {
			if err := adoptNetNS(pid, agentproto.GuestNetNS); err != nil {
				return err
			}
			return a.configuration.moveNetwork(ctx)
		})
	} else if err := a.configuration.joinNetwork(ctx); err != nil {
		conns.close()
		return c, nil, err
	}
	uid, gid, err := c.rootIDs()
	if err != nil {
		conns.close()
		return c, nil, err
	}
	mountBelow(req.GetSubmounts())
	if err := a.volumes.join(req.GetShare(), req.GetVolumes()); err != nil {
		conns.close()
		return c, nil, err
	}
	if uid != 0 {
		makeMountPoints(c.config, uid, gid)
	}
	io, err := newStdio(lp, conns, spec.Process.Terminal, uid, gid)
	return c, io, err
}

// remove undoes what was done for a container that has no process; c is nil where
// libcontainer has made nothing of it.
func (a *Agent) remove(req *agentproto.CreateContainerRequest, c *container) {
	a.volumes.leave(req.GetShare())
	a.unmountShare(req.GetShare())
	if c != nil {
		a.destroy(c)
	}
	a.letGo(req.GetSharedMemory())
	a.namespaces.leave()
}

// letGo releases the shared memory of a container that is gone.
func (a *Agent) letGo(memory []*agentproto.SharedMemory) {
	if err := a.memory.release(memory); err != nil {
		a.log.Debug("unmount shared memory", "error", err)
	}
}

// destroy removes what libcontainer made of a container that does not run.
// Meanwhile the reaper waits for no child: libcontainer waits for its hooks itself.
func (a *Agent) destroy(c *container) {
	a.reaper.begin()
	defer a.reaper.end(0)
	if err := c.lc.Destroy(); err != nil {
		a.log.Debug("destroy", "container", c.id, "error", err)
	}
}

// watchInit waits for the end of a container's init, unmounts the container's files,
// answers the open Wait calls, and removes what is left.
func (a *Agent) watchInit(c *container) {
	defer close(c.gone)
	resp := &agentproto.WaitResponse{ExitCode: c.init.wait()}
	a.reaper.untrack(c.init.pid)
	resp.OomKilled = c.ended()
	close(c.init.exited)
	if !c.privatePID {
		// The kernel kills the other processes only at the end of a pid namespace's init.
		if err := c.signalAll(unix.SIGKILL); err != nil {
			a.log.Debug("kill the rest", "container", c.id, "error", err)
		}
	}
	a.volumes.leave(c.share)
	a.unmountShare(c.share)
	c.init.finish(resp)
	a.destroy(c)
	a.letGo(c.memory)
	a.namespaces.leave()
}

// StartContainer lets the user's program run.
func (a *Agent) StartContainer(ctx context.Context, req *agentproto.StartContainerRequest) (*agentproto.StartContainerResponse, error) {
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := a.configuration.changeNetwork(ctx, req.GetNetwork()); err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() { started <- c.lc.Exec() }()
	select {
	case err = <-started:
	case <-c.init.exited:
		// The program ran and ended, or the init was killed before: Exec tells by the fifo.
		err = <-started
	case <-ctx.Done():
		return nil, ctx.Err() // the program may still start, unless the container is killed
	}
	if err != nil {
		c.unstart()
		return nil, err
	}
	a.timeline.mark(func(t *agentproto.Timeline) *uint64 { return &t.ContainerStartedNs })
	a.reportFreeMemory()
	return &agentproto.StartContainerResponse{}, nil
}

// killAll ends every process of every container, before the power goes.
func (a *Agent) killAll() {
	for _, c := range a.table.all() {
		if err := c.signalAll(unix.SIGKILL); err != nil {
			a.log.Debug("kill", "container", c.id, "error", err)
		}
	}
}
