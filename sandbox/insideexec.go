package sandbox

import (
	"context"
	"fmt"

	"runch/agentproto"
	"runch/shim"
	"runch/storage"
)

// startExec makes one more process in a container.
func (in *inside) startExec(ctx context.Context, files shim.Files) (*shim.Process, error) {
	o := in.orders.Exec
	client, err := agentproto.Connect(ctx, o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("reach the agent: %w", err)
	}
	streams, err := shim.OpenStreams(ctx, o.Endpoint, files)
	if err != nil {
		return nil, err
	}
	// From here on this process has nothing to do with the host's files.
	if err := storage.EnterView(o.SandboxPID); err != nil {
		return nil, err
	}
	_, err = client.Exec(ctx, &agentproto.ExecRequest{
		ContainerId: in.orders.ID, ExecId: o.ExecID, Process: o.Process, Stdio: in.stdio(streams),
		TerminalSize: in.terminalSize(), Cgroup: o.Cgroup, IgnorePaused: o.IgnorePaused,
	})
	if err != nil {
		return nil, agentproto.FromAgent(err)
	}
	if err := in.ready(&readyReport{}); err != nil {
		return nil, err
	}
	return &shim.Process{
		Container: in.orders.ID, Exec: o.ExecID, Agent: client, Streams: streams, Terminal: in.slave(),
	}, nil
}
