package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// unwaitedTimeout is how long a process may run before its shim calls Wait. A shim
// that takes longer was killed between the two calls.
const unwaitedTimeout = time.Minute

// expectWait kills a process for which no Wait call comes in time. id is the exec's,
// empty for an init.
func (a *Agent) expectWait(c *container, id string, p *process) {
	time.AfterFunc(unwaitedTimeout, func() {
		if p.waits.Load() == 0 {
			a.killUnwaited(c, p)
			c.abandon(id, p)
		}
	})
}

// Exec makes one more process in a container.
func (a *Agent) Exec(ctx context.Context, req *agentproto.ExecRequest) (*agentproto.ExecResponse, error) {
	if err := checkID("exec_id", req.GetExecId()); err != nil {
		return nil, err
	}
	if err := checkSize(req.GetTerminalSize()); err != nil {
		return nil, err
	}
	spec, err := decodeProcess(req.GetProcess())
	if err != nil {
		return nil, err
	}
	if err := checkStdio(req.GetStdio(), spec.Terminal); err != nil {
		return nil, err
	}
	lp, err := newProcess(spec, req.GetTerminalSize(), a.debug)
	if err != nil {
		return nil, err
	}
	if sub := req.GetCgroup(); sub != "" {
		// libcontainer refuses one that leaves the container's cgroup.
		lp.SubCgroupPaths = map[string]string{"": sub}
	}
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := c.canExec(req.GetIgnorePaused()); err != nil {
		return nil, err
	}
	if err := c.reserve(req.GetExecId()); err != nil {
		return nil, err
	}
	p, err := a.exec(ctx, c, req, lp, spec.Terminal)
	c.setExec(req.GetExecId(), p)
	if err != nil {
		return nil, err
	}
	return &agentproto.ExecResponse{Pid: int32(p.pid)}, nil // #nosec G115 -- a pid
}

// exec starts the process, with its id reserved.
func (a *Agent) exec(ctx context.Context, c *container, req *agentproto.ExecRequest, lp *libcontainer.Process, terminal bool) (*process, error) {
	conns, err := a.streams.claimAll(ctx, req.GetStdio())
	if err != nil {
		return nil, err
	}
	uid, gid, err := c.rootIDs()
	if err != nil {
		conns.close()
		return nil, err
	}
	io, err := newStdio(lp, conns, terminal, uid, gid)
	if err != nil {
		return nil, err
	}
	h, err := c.handle()
	if err != nil {
		io.abort()
		return nil, err
	}
	release, err := c.awaitThawed(ctx)
	if err != nil {
		c.putHandle(h)
		io.abort()
		return nil, err
	}
	before := c.oomKills()
	p, err := a.launch(ctx, func() (*process, error) {
		defer release()
		return a.startProcess(h, lp, io)
	}, a.discard)
	if err != nil && c.init.ending() {
		return nil, errExecStopped // libcontainer's error depends on how far it came
	}
	if err != nil {
		return nil, err
	}
	c.putHandle(h)
	go a.watchExec(c, req.GetExecId(), p, before)
	a.expectWait(c, req.GetExecId(), p)
	return p, nil
}

// watchExec waits for an exec and answers those who wait for it.
func (a *Agent) watchExec(c *container, id string, p *process, oomBefore uint64) {
	resp := &agentproto.WaitResponse{ExitCode: p.wait()}
	a.reaper.untrack(p.pid)
	resp.OomKilled = c.oomKills() > oomBefore
	c.endExec(id, p, resp)
}

// endExec answers the open Wait calls for an exec that has ended. It forgets the exec
// if its shim is gone.
func (c *container) endExec(id string, p *process, result *agentproto.WaitResponse) {
	close(p.exited)
	p.finish(result)
	if p.abandoned.Load() {
		c.forget(id, p)
	}
}

// launch starts an init or an exec by start. If ctx ends before the start does, the
// start is undone when it is over.
func (a *Agent) launch(ctx context.Context, start func() (*process, error), undo func(*process)) (*process, error) {
	type result struct {
		p   *process
		err error
	}
	done := make(chan result, 1)
	go func() {
		p, err := start()
		done <- result{p, err}
	}()
	select {
	case r := <-done:
		if r.err == nil && ctx.Err() != nil {
			undo(r.p)
			return nil, ctx.Err()
		}
		return r.p, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				undo(r.p)
			}
		}()
		return nil, fmt.Errorf("start the process: %w", ctx.Err())
	}
}

// startProcess starts lp by h, which cannot be interrupted. It owns io from here on,
// also with an error.
func (a *Agent) startProcess(h *libcontainer.Container, lp *libcontainer.Process, io *stdio) (*process, error) {
	a.reaper.begin()
	err := h.Start(lp)
	pid := 0
	if err == nil {
		pid, err = lp.Pid()
	}
	a.reaper.end(pid)
	if err != nil {
		io.abort()
		return nil, err
	}
	p := &process{lc: lp, stdio: io, pid: pid, exited: make(chan struct{}), done: make(chan struct{})}
	if err := io.start(); err != nil {
		a.discard(p)
		return nil, err
	}
	return p, nil
}

// discard kills a process that was reported to no caller.
func (a *Agent) discard(p *process) {
	_ = p.signal(unix.SIGKILL)
	resp := &agentproto.WaitResponse{ExitCode: p.wait()}
	a.reaper.untrack(p.pid)
	close(p.exited)
	p.finish(resp)
}
