package main

import (
	"context"
	"fmt"
	"time"

	"runch/agentproto"
	"runch/state"
)

// createCPU keeps the CPU time of a create: that of the command, of the children that it has waited for and of the
// processes that it has left running. That of the VMM is kept separately.
func (b *bench) createCPU(r *runtime, c cost) error {
	pid, err := r.pid()
	if err != nil {
		return err
	}
	left, err := cpuTime(pid)
	if err != nil {
		return err
	}
	total := c.all + left
	if r.bare != nil {
		s, err := sandboxOf(pid)
		if err != nil {
			return err
		}
		fsd, err := cpuTime(s.virtiofsd.pid)
		if err != nil {
			return err
		}
		vmm, err := cpuTime(s.vmm.pid)
		if err != nil {
			return err
		}
		total += fsd
		b.samples.duration("create", cpuPart, "command of "+r.name, c.all)
		b.samples.duration("create", cpuPart, "shim of "+r.name, left)
		b.samples.duration("create", cpuPart, "virtiofsd of "+r.name, fsd)
		b.samples.duration("create", cpuVMM, r.name, vmm)
	}
	b.samples.duration("create", cpuAll, r.name, total)
	return nil
}

// idleTime is how long a container is left alone before its memory is measured: by then shim and agent have given back
// the memory that they needed for the start only.
const idleTime = 5 * time.Second

// lookInside asks the agent for the guest's timeline. In the last round it also measures what an idle container uses.
func (b *bench) lookInside(ctx context.Context, r *runtime, last bool) error {
	s, err := r.sandbox()
	if err != nil {
		return err
	}
	if err := r.bare.sameAs(s.vmm); err != nil {
		return err
	}
	info, err := askAgent(ctx, r)
	if err != nil {
		return err
	}
	b.samples.addContainer(r.name, info.GetTimeline())
	if !last {
		return nil
	}
	select {
	case <-time.After(idleTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := r.usage.onHost(s); err != nil {
		return err
	}
	// Ask the agent last, as that wakes the shim.
	if info, err = askAgent(ctx, r); err != nil {
		return err
	}
	r.usage.inGuest(info)
	return nil
}

// sandboxRecord returns runch's record of a container's sandbox.
func (r *runtime) sandboxRecord() (*state.Sandbox, error) {
	return state.NewStore(r.state()).LoadSandbox(r.id())
}

// askAgent calls the agent's Info.
func askAgent(ctx context.Context, r *runtime) (*agentproto.InfoResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	s, err := r.sandboxRecord()
	if err != nil {
		return nil, err
	}
	client, err := agentproto.Connect(ctx, s.Endpoint)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	info, err := client.Info(ctx, &agentproto.InfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	return info, nil
}

// usage is what an idle container uses: memory in bytes, and the number of host processes and of the shim's threads.
type usage struct {
	ShimPSS      int64 `json:"shim_pss"`
	VirtiofsdPSS int64 `json:"virtiofsd_pss"`
	VMMPSS       int64 `json:"vmm_pss"`
	// VMMOwnPSS does not include the guest's memory, which is shared memory.
	VMMOwnPSS   int64 `json:"vmm_own_pss"`
	AgentRSS    int64 `json:"agent_rss"`
	GuestMemory int64 `json:"guest_memory"`
	GuestUsed   int64 `json:"guest_used"`
	Processes   int   `json:"processes"`
	ShimThreads int64 `json:"shim_threads"`
}

func (u *usage) onHost(s *sandbox) error {
	for _, f := range []struct {
		to          *int64
		pid         int
		file, label string
		unit        int64
	}{
		{&u.ShimPSS, s.shim.pid, "smaps_rollup", "Pss:", 1 << 10},
		{&u.VirtiofsdPSS, s.virtiofsd.pid, "smaps_rollup", "Pss:", 1 << 10},
		{&u.VMMPSS, s.vmm.pid, "smaps_rollup", "Pss:", 1 << 10},
		{&u.VMMOwnPSS, s.vmm.pid, "smaps_rollup", "Pss_Shmem:", 1 << 10},
		{&u.ShimThreads, s.shim.pid, "status", "Threads:", 1},
	} {
		n, err := statusField(f.pid, f.file, f.label)
		if err != nil {
			return err
		}
		*f.to = n * f.unit
	}
	u.VMMOwnPSS = u.VMMPSS - u.VMMOwnPSS
	u.Processes = 3 + len(s.others)
	return nil
}

func (u *usage) inGuest(info *agentproto.InfoResponse) {
	u.AgentRSS, u.GuestMemory = int64(info.GetAgentRssBytes()), int64(info.GetMemoryTotalBytes())
	u.GuestUsed = u.GuestMemory - int64(info.GetMemoryAvailableBytes())
}
