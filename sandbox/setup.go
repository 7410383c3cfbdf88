package sandbox

import (
	"encoding/json"
	"fmt"

	"runch/agentproto"
	"runch/cgroup"
	"runch/oci"
	"runch/shimproto"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// setup is what the shim is asked for.
func (c *creation) setup() (*shimproto.Setup, error) {
	spec, err := json.Marshal(c.spec)
	if err != nil {
		return nil, fmt.Errorf("encode the guest's spec: %w", err)
	}
	s := &shimproto.Setup{
		ID: c.o.ID, Timeout: c.timeout(), Terminal: c.terminal,
		Container: &shimproto.Container{
			Spec: spec, Rootfs: c.host.Rootfs, RootfsReadonly: c.host.RootfsReadonly, Binds: c.host.Binds,
			GuestOnly: c.guestOnly(), Share: c.record.Share, NoPivot: c.o.NoPivot, NoNewKeyring: c.o.NoNewKeyring,
			Bundle: c.o.Bundle.Dir, SharedNamespaces: c.place.shared, SharedMemory: c.sharedMemory(),
			GuestDevices: len(c.host.LeftOut) > 0,
			Memory:       cgroup.MemoryDir(c.record.Cgroup.Paths), OOMFile: oci.WantsOOMFile(c.record.Annotations),
		},
	}
	if c.hasCreateHooks() {
		s.Container.Hooks = &shimproto.Hooks{
			CreateContainer: c.host.Hooks.CreateContainer, State: hookState(c.record, specs.StateCreating),
		}
	}
	if c.place.own {
		s.VM = &c.vm.VM
		s.VM.NewNetwork = c.host.Namespaces[specs.NetworkNamespace] == ""
	} else {
		if now := c.sandbox.record.Now; now != c.sandbox.record.Boot {
			s.Container.CPUs = now.CPUs
		}
		s.Container.Holder, s.Container.Guest = c.sandbox.Path(), c.sandbox.record.Endpoint
		s.Container.Attends = c.place.pod
	}
	return s, nil
}

// sharedMemory is the memory that the container shares with others in the guest. In a
// sandbox without an owner it outlives the containers that use it.
func (c *creation) sharedMemory() []*agentproto.SharedMemory {
	var list []*agentproto.SharedMemory
	for _, m := range c.host.SharedMemory {
		list = append(list, &agentproto.SharedMemory{
			Name: m.Name, Size: uint64(max(0, m.Size)), Mode: m.Mode, Uid: m.UID, Gid: m.GID,
			Lasts: c.sandbox.record.Owner == "",
		})
	}
	return list
}

// guestOnly are the destinations of the file systems that the guest makes:
// nobody on the host can see into them. /proc is not among them, because the shim's
// view has a /proc of its own.
func (c *creation) guestOnly() []string {
	var list []string
	for _, m := range c.spec.Mounts {
		if m.Type != "bind" && m.Type != "proc" {
			list = append(list, m.Destination)
		}
	}
	for _, m := range c.host.SharedMemory {
		list = append(list, m.Destination)
	}
	return list
}

// terminalOf says what terminal a process has, nil for none.
func terminalOf(p *specs.Process) *shimproto.Terminal {
	if p == nil || !p.Terminal {
		return nil
	}
	t := &shimproto.Terminal{}
	if p.ConsoleSize != nil {
		// #nosec G115 -- a wrong size is a size all the same
		t.Size = &agentproto.TerminalSize{Height: uint32(p.ConsoleSize.Height), Width: uint32(p.ConsoleSize.Width)}
	}
	return t
}
