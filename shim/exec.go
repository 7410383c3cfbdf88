package shim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"runch/agentproto"
	"runch/shimproto"
	"runch/storage"
)

// makeExec makes one more process in a container.
func (s *setup) makeExec(ctx context.Context, files Files) (*Task, error) {
	e := s.Exec
	client, streams, err := connectInTime(ctx, e.Guest, files)
	if err != nil {
		return nil, err
	}
	// From here on this process does not see the host's files.
	if err := storage.JoinView(e.ShimPID); err != nil {
		return nil, err
	}
	err = execWhileAlive(ctx, client, &agentproto.ExecRequest{
		ContainerId: s.ID, ExecId: e.ID, Process: e.Process, Stdio: s.stdio(streams),
		TerminalSize: s.terminalSize(), Cgroup: e.Cgroup, IgnorePaused: e.IgnorePaused,
	})
	if err != nil {
		return nil, err
	}
	t := &Task{Container: s.ID, Exec: e.ID, Agent: client, Streams: streams, Terminal: s.slave()}
	t.Watch(ctx, client.NextSent())
	return t, s.ready(&shimproto.Ready{})
}

const (
	// answerTimeout bounds connecting to the agent. After this time an Exec without an
	// answer makes the shim ask whether the agent lives.
	answerTimeout = 30 * time.Second
	// aliveTimeout is how long an agent may take to answer that.
	aliveTimeout = 10 * time.Second
)

// connectInTime connects within answerTimeout: a guest that lives has next to nothing to
// do for that.
func connectInTime(ctx context.Context, d agentproto.Dialer, files Files) (*agentproto.Client, *Streams, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, agentproto.ErrUnreachable)
	defer cancel()
	return connect(ctx, d, files)
}

// execWhileAlive makes the process. It waits without a bound for a guest that is slow,
// but asks a guest that has not answered within answerTimeout whether it lives, and gives
// it up if it does not answer that either.
func execWhileAlive(ctx context.Context, agent agentproto.AgentService, req *agentproto.ExecRequest) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(answerTimeout, func() {
		ctx, stop := context.WithTimeout(ctx, aliveTimeout)
		defer stop()
		if _, err := agent.Info(ctx, &agentproto.InfoRequest{}); err != nil {
			cancel(fmt.Errorf("%w: nothing in %v", agentproto.ErrUnreachable, answerTimeout+aliveTimeout))
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
