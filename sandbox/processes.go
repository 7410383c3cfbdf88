package sandbox

import (
	"context"

	"runch/agentproto"
	"runch/state"
)

// Process is a process of a container, by its numbers in the guest.
type Process struct {
	PID, PPID, UID int
	Command, TTY   string
	// State is what ps(1) shows as STAT.
	State string
	// StartNS is when it started, in nanoseconds since the epoch; CPUNS is the CPU time
	// that it has used, in nanoseconds.
	StartNS, CPUNS uint64
}

// Processes lists the container's processes in the guest: none when it has stopped.
func (r *Runtime) Processes(ctx context.Context, id string) ([]Process, error) {
	c, err := r.withProcesses(id)
	if err != nil || c == nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var list []Process
	err = r.call(ctx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		answer, err := agent.Processes(ctx, &agentproto.ProcessesRequest{ContainerId: id})
		for _, p := range answer.GetProcesses() {
			list = append(list, Process{
				PID: int(p.GetPid()), PPID: int(p.GetPpid()), UID: int(p.GetUid()), Command: p.GetCommand(),
				TTY: p.GetTty(), State: p.GetState(), StartNS: p.GetStartTimeNs(), CPUNS: p.GetCpuTimeNs(),
			})
		}
		return err
	})
	return list, err
}

// HostPIDs lists the pids of the processes that stand for the container's on the host: of
// its shim, and of those of its execs. There are none when it has stopped.
func (r *Runtime) HostPIDs(id string) ([]int, error) {
	c, err := r.withProcesses(id)
	if err != nil || c == nil {
		return nil, err
	}
	return c.Shim.Shims()
}

// withProcesses loads a container to list its processes; it gives nil for one that
// has stopped and has none.
func (r *Runtime) withProcesses(id string) (*state.Container, error) {
	c, err := r.Store.Load(id)
	if err != nil {
		return nil, err
	}
	switch c.Status() {
	case state.StatusStopped:
		return nil, nil
	case state.StatusCreating:
		return nil, state.ErrNotRunning
	}
	return c, nil
}
