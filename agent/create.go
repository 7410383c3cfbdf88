package agent

import (
	"context"
	"errors"
	"slices"

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
	if err := a.guest.ready(); err != nil {
		return nil, err
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
	return spec, checkStdio(req.GetStdio(), spec.Process.Terminal)
}

// create does what takes time, with the id reserved. It gives a container or an
// error, never both.
func (a *Agent) create(ctx context.Context, req *agentproto.CreateContainerRequest, spec *specs.Spec) (*container, error) {
	lp, err := newProcess(spec.Process, req.GetTerminalSize(), a.debug)
	if err != nil {
		return nil, err
	}
	lp.Init = true
	mountBelow(req.GetSubmounts())
	own := makesNetNS(spec)
	if !own {
		if err := a.guest.applyNetwork(ctx); err != nil {
			return nil, err
		}
	}
	conns, err := a.streams.claimAll(ctx, req.GetStdio())
	if err != nil {
		return nil, err
	}
	c, err := newContainer(req, spec)
	if err != nil {
		conns.close()
		return nil, err
	}
	if own {
		c.whenNamespaced(func(pid int) error {
			if err := adoptNetNS(pid, agentproto.GuestNetNS); err != nil {
				return err
			}
			return a.guest.reapplyNetwork(ctx)
		})
	}
	uid, gid, err := c.rootIDs()
	if err != nil {
		conns.close()
		return nil, errors.Join(err, a.destroy(c))
	}
	io, err := newStdio(lp, conns, spec.Process.Terminal, uid, gid)
	if err != nil {
		return nil, errors.Join(err, a.destroy(c))
	}
	p, err := a.launch(ctx, func() (*process, error) { return a.startProcess(c.lc, lp, io) })
	if err != nil {
		_ = a.destroy(c) // its words would hide the reason
		return nil, err
	}
	c.init = p
	c.handles = append(c.handles, c.lc)
	go a.watchInit(c)
	return c, nil
}

// destroy removes what libcontainer made of a container that does not run. Its
// hooks are children as well.
func (a *Agent) destroy(c *container) error {
	a.reaper.begin()
	defer a.reaper.end(0)
	return c.lc.Destroy()
}

// watchInit waits for a container's init, answers those who wait, and removes
// what is left.
func (a *Agent) watchInit(c *container) {
	defer close(c.gone)
	resp := &agentproto.WaitResponse{ExitCode: c.init.wait()}
	a.reaper.untrack(c.init.pid)
	resp.OomKilled = c.ended()
	close(c.init.exited)
	c.init.finish(resp)
	if err := a.destroy(c); err != nil {
		a.log.Debug("destroy", "container", c.id, "error", err)
	}
}

// StartContainer lets the user's program run.
func (a *Agent) StartContainer(ctx context.Context, req *agentproto.StartContainerRequest) (*agentproto.StartContainerResponse, error) {
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := a.guest.changeNetwork(ctx, req.GetNetwork()); err != nil {
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
		// It ran and is over, or was killed before: the fifo knows.
		err = <-started
	case <-ctx.Done():
		return nil, ctx.Err() // it still comes to run, or the container is killed
	}
	if err != nil {
		c.unstart()
		return nil, err
	}
	a.timeline.mark(func(t *agentproto.Timeline) *uint64 { return &t.ContainerStartedNs })
	return &agentproto.StartContainerResponse{}, nil
}

// makesNetNS tells whether a container's network namespace is made with it: the
// guest's own is joined by its path.
func makesNetNS(spec *specs.Spec) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.NetworkNamespace && ns.Path == ""
	})
}

// killAll ends every process of every container, before the power goes.
func (a *Agent) killAll() {
	for _, c := range a.table.all() {
		if err := c.signalAll(unix.SIGKILL); err != nil {
			a.log.Debug("kill", "container", c.id, "error", err)
		}
	}
}
