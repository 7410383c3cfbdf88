package agent

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// Wait answers when the process has ended and its output is sent. If the
// connection breaks before, the shim was killed. Then Wait kills the process too:
// to the caller, the shim's pid is the process.
func (a *Agent) Wait(ctx context.Context, req *agentproto.WaitRequest) (*agentproto.WaitResponse, error) {
	c, p, err := a.find(req.GetContainerId(), req.GetExecId())
	if err != nil {
		return nil, err
	}
	p.waits.Add(1)
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	select {
	case <-p.done:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			a.killUnwaited(c, p)
			c.abandon(req.GetExecId(), p)
		}
		return nil, ctx.Err()
	}
	c.forget(req.GetExecId(), p)
	return p.result, nil
}

// killUnwaited ends a process whose shim is gone.
func (a *Agent) killUnwaited(c *container, p *process) {
	err := p.signal(unix.SIGKILL)
	if p == c.init && !c.privatePID {
		err = errors.Join(err, c.signalAll(unix.SIGKILL))
	}
	a.log.Debug("nobody waits any more", "container", c.id, "pid", p.pid, "error", err)
}

func (a *Agent) find(containerID, execID string) (*container, *process, error) {
	c, err := a.table.get(containerID)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.process(execID)
	return c, p, err
}

// Signal delivers a signal and does nothing else.
func (a *Agent) Signal(_ context.Context, req *agentproto.SignalRequest) (*agentproto.SignalResponse, error) {
	if req.GetSignal() > maxSignal {
		return nil, invalidf("signal: %d is none", req.GetSignal())
	}
	sig := unix.Signal(req.GetSignal()) // #nosec G115 -- at most maxSignal
	c, p, err := a.find(req.GetContainerId(), req.GetExecId())
	if err != nil {
		return nil, err
	}
	resp := &agentproto.SignalResponse{}
	if req.GetAll() {
		return resp, c.signalAll(sig)
	}
	err = p.signal(sig)
	if p != c.init {
		return resp, err
	}
	if errors.Is(err, errProcessDone) {
		return nil, errNotRunning
	}
	// Without a pid namespace of its own the end of the init does not end the others.
	if err == nil && sig == unix.SIGKILL && !c.privatePID {
		err = c.signalAll(sig)
	}
	return resp, err
}

// Resize sets the size of the process's terminal.
func (a *Agent) Resize(_ context.Context, req *agentproto.ResizeRequest) (*agentproto.ResizeResponse, error) {
	size := req.GetSize()
	if err := checkSize(size); err != nil {
		return nil, err
	}
	_, p, err := a.find(req.GetContainerId(), req.GetExecId())
	if err != nil {
		return nil, err
	}
	select {
	case <-p.exited:
		return nil, errProcessDone
	default:
	}
	// #nosec G115 -- bounded by checkSize
	return &agentproto.ResizeResponse{}, p.stdio.resize(uint16(size.GetHeight()), uint16(size.GetWidth()))
}

// CloseStdin says how long the process's input is.
func (a *Agent) CloseStdin(_ context.Context, req *agentproto.CloseStdinRequest) (*agentproto.CloseStdinResponse, error) {
	_, p, err := a.find(req.GetContainerId(), req.GetExecId())
	if err != nil {
		return nil, err
	}
	p.stdio.closeStdin(req.GetBytes())
	return &agentproto.CloseStdinResponse{}, nil
}

// Pause freezes a container.
func (a *Agent) Pause(ctx context.Context, req *agentproto.PauseRequest) (*agentproto.PauseResponse, error) {
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &agentproto.PauseResponse{}, c.freeze(ctx, true)
}

// Resume sets the clock and thaws a container.
func (a *Agent) Resume(ctx context.Context, req *agentproto.ResumeRequest) (*agentproto.ResumeResponse, error) {
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := setClock(req.GetHostTimeNs()); err != nil {
		return nil, err
	}
	return &agentproto.ResumeResponse{}, c.freeze(ctx, false)
}

// Processes lists a container's processes.
func (a *Agent) Processes(_ context.Context, req *agentproto.ProcessesRequest) (*agentproto.ProcessesResponse, error) {
	c, err := a.table.get(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	pids, err := c.cgroup.GetAllPids()
	if err != nil {
		if c.state() == stopped {
			return nil, errNotRunning
		}
		return nil, err
	}
	return &agentproto.ProcessesResponse{Processes: listProcesses("/proc", pids)}, nil
}
