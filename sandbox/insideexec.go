package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"runch/agentproto"
	"runch/shim"
	"runch/storage"
)

// startExec makes one more process in a container.
func (in *inside) startExec(ctx context.Context, files shim.Files) (*shim.Process, error) {
	o := in.orders.Exec
	client, streams, err := connectInTime(ctx, o.Endpoint, files)
	if err != nil {
		return nil, err
	}
	// From here on this process has nothing to do with the host's files.
	if err := storage.EnterView(o.SandboxPID); err != nil {
		return nil, err
	}
	err = execWhileAlive(ctx, client, &agentproto.ExecRequest{
		ContainerId: in.orders.ID, ExecId: o.ExecID, Process: o.Process, Stdio: in.stdio(streams),
		TerminalSize: in.terminalSize(), Cgroup: o.Cgroup, IgnorePaused: o.IgnorePaused,
	})
	if err != nil {
		return nil, err
	}
	if err := in.ready(&readyReport{}); err != nil {
		return nil, err
	}
	return &shim.Process{
		Container: in.orders.ID, Exec: o.ExecID, Agent: client, Streams: streams, Terminal: in.slave(),
	}, nil
}

// connectInTime connects, for which a guest that lives has to do next to nothing.
func connectInTime(ctx context.Context, d agentproto.Dialer, files shim.Files) (*agentproto.Client, *shim.Streams, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, agentproto.ErrUnreachable)
	defer cancel()
	return connect(ctx, d, files)
}

// execWhileAlive makes the process, which takes as long as it takes in a guest
// that is slow. One that says nothing for callTimeout is asked whether it lives,
// and given up if it does not answer to that either.
func execWhileAlive(ctx context.Context, agent agentproto.AgentService, req *agentproto.ExecRequest) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(callTimeout, func() {
		ctx, stop := context.WithTimeout(ctx, aliveTimeout)
		defer stop()
		if _, err := agent.Info(ctx, &agentproto.InfoRequest{}); err != nil {
			cancel(fmt.Errorf("%w: nothing in %v", agentproto.ErrUnreachable, callTimeout+aliveTimeout))
		}
	}).Stop()
	if _, err := agent.Exec(ctx, req); err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, agentproto.ErrUnreachable) {
			return cause
		}
		return agentproto.FromAgent(err)
	}
	return nil
}
