package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"runch/agentproto"
	"runch/cgroup"
	"runch/namespace"
	"runch/network"
	"runch/oci"
	"runch/state"
	"runch/storage"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// CreateOptions are what create is asked for.
type CreateOptions struct {
	ID     string
	Bundle *oci.Bundle
	// PIDFile is written last, empty for none.
	PIDFile string
	// ConsoleSocket gets the terminal's master, where the process has a terminal.
	ConsoleSocket string
	NoPivot       bool
	NoNewKeyring  bool
	// Stdin, Stdout and Stderr become the container's, where it has no terminal.
	Stdin, Stdout, Stderr *os.File
}

// Create makes a container in a VM of its own, up to the point where its
// process waits for Start. What a failed Create has made is gone again.
func (r *Runtime) Create(ctx context.Context, o CreateOptions) error {
	console, err := dialConsole(o.ConsoleSocket)
	if err != nil {
		return err
	}
	if console != nil {
		defer console.Close()
	}
	_, err = r.create(ctx, o, terminalOf(o.Bundle.Spec.Process), console)
	return err
}

// creation is a create under way, and what it has made so far.
type creation struct {
	r *Runtime
	o CreateOptions
	// terminal is nil for a process without one.
	terminal *terminalOrders
	host     *oci.HostPart
	spec     *specs.Spec
	vm       *vmOrders
	fs       *storage.Virtiofsd
	dir      *state.Dir
	record   *state.Container
	shim     *shimProcess
}

func (r *Runtime) create(ctx context.Context, o CreateOptions, terminal *terminalOrders, console *os.File) (*shimProcess, error) {
	c := &creation{r: r, o: o, terminal: terminal}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	if err := c.make(ctx, console); err != nil {
		return nil, c.undo(context.WithoutCancel(ctx), err)
	}
	return c.shim, c.dir.Close()
}

// timeout bounds everything up to the commit. Hooks have their own time.
func (c *creation) timeout() time.Duration {
	return c.r.setupTimeout() + createHooksTimeout(c.host.Hooks)
}

// prepare finds everything out that can be known before anything is made.
func (c *creation) prepare() error {
	var err error
	c.host, c.spec, err = oci.Split(c.o.Bundle, c.o.ID, oci.GuestPaths{Shared: agentproto.GuestSharedDir, NetNS: agentproto.GuestNetNS})
	if err != nil {
		return err
	}
	if c.fs, err = storage.FindVirtiofsd(c.r.Config.Virtiofsd); err != nil {
		return err
	}
	if c.host.NetNSPath != "" {
		if err := network.CheckNotHost(c.host.NetNSPath); err != nil {
			return err
		}
	}
	c.r.warnOf(c.spec.Process)
	c.vm, err = c.r.vmFor(c.host, c.o.Bundle.Spec.Annotations)
	return err
}

// make makes everything, in an order in which each step needs the one before.
func (c *creation) make(ctx context.Context, console *os.File) error {
	var err error
	if c.dir, err = c.r.Store.New(c.o.ID); err != nil {
		return err
	}
	bundle := c.o.Bundle
	creator, err := state.Self()
	if err != nil {
		return fmt.Errorf("identify this process: %w", err)
	}
	c.record = &state.Container{
		Creator: creator,
		ID:      c.o.ID, Sandbox: c.o.ID, OCIVersion: bundle.Spec.Version, Bundle: bundle.Dir, Rootfs: bundle.Rootfs,
		Created: time.Now().UTC(), Annotations: bundle.Spec.Annotations, Owner: owner(),
		Hooks: c.host.Hooks, StartHooks: startHooksTimeout(c.spec.Hooks),
		Network: state.Network{NetNS: c.host.NetNSPath}, Terminal: c.terminal != nil, LogDir: c.r.Config.LogDir,
		Resources: c.host.Resources, Overhead: int64(c.r.Config.OverheadMiB+c.r.Config.VMMOverheadMiB) << 20,
	}
	if err := c.dir.Save(c.record); err != nil {
		return err
	}
	if err := c.startShim(console); err != nil {
		return err
	}
	if err := c.shim.channel.send(c.orders()); err != nil {
		return err
	}
	if c.hasCreateHooks() {
		if err := c.runCreateHooks(ctx); err != nil {
			return err
		}
	}
	ready, err := c.shim.await(ctx)
	if err != nil {
		return err
	}
	return c.commit(ready)
}

// startShim starts the shim in its namespaces and puts it into its cgroup
// before it, or a child of it, has done anything.
func (c *creation) startShim(console *os.File) error {
	var err error
	if err := os.Mkdir(filepath.Join(c.dir.Path(), treeDir), 0o700); err != nil {
		return fmt.Errorf("make the sandbox's directory: %w", err)
	}
	s := shimSpec{unshare: unix.CLONE_NEWPID | unix.CLONE_NEWNS, console: console}
	if c.terminal == nil {
		s.stdio = [3]*os.File{c.o.Stdin, c.o.Stdout, c.o.Stderr}
	}
	if c.host.NetNSPath != "" {
		s.join = append(s.join, namespace.Namespace{Kind: unix.CLONE_NEWNET, Path: c.host.NetNSPath})
	} else {
		s.unshare |= unix.CLONE_NEWNET
	}
	if c.host.NewIPC {
		s.unshare |= unix.CLONE_NEWIPC
	}
	if c.host.NewUTS {
		s.unshare |= unix.CLONE_NEWUTS
	}
	if c.shim, err = spawn(s); err != nil {
		return err
	}
	if c.record.Shim, err = state.ProcessOf(c.shim.pid()); err != nil {
		return fmt.Errorf("identify the shim: %w", err)
	}
	if err := c.enterCgroup(); err != nil {
		return err
	}
	return setOOMScoreAdj(c.shim.pid(), c.host.OOMScoreAdj)
}

// enterCgroup makes the cgroup and puts the shim into it. The record knows of
// it first: this command may be killed at any moment.
func (c *creation) enterCgroup() error {
	path := c.cgroupsPath()
	group, err := cgroup.New(path, c.r.Systemd, cgroup.Limits{Resources: c.record.Resources, Overhead: c.record.Overhead}, c.record.Annotations)
	if err != nil {
		return fmt.Errorf("make the cgroup %s: %w", path, err)
	}
	c.record.Cgroup = state.Cgroup{Path: path, Systemd: c.r.Systemd, Paths: group.Paths()}
	if err := c.dir.Save(c.record); err != nil {
		return err
	}
	if err := group.Apply(c.shim.pid()); err != nil {
		// Apply left nothing, and what was there before it is not ours.
		c.record.Cgroup = state.Cgroup{}
		return fmt.Errorf("enter the cgroup %s: %w", path, err)
	}
	return nil
}

// orders are the shim's.
func (c *creation) orders() *orders {
	spec, err := json.Marshal(c.spec)
	if err != nil {
		spec = nil // a spec that was decoded from JSON can be encoded
	}
	o := &orders{
		ID: c.o.ID, Timeout: c.timeout(),
		Container: &containerOrders{
			Dir: c.dir.Path(), Spec: spec, Rootfs: c.host.Rootfs, RootfsReadonly: c.host.RootfsReadonly,
			GuestOnly: guestOnly(c.spec), VM: *c.vm, Virtiofsd: *c.fs,
			SelinuxLabel: c.host.SelinuxLabel, NoPivot: c.o.NoPivot, NoNewKeyring: c.o.NoNewKeyring, Bundle: c.o.Bundle.Dir,
		},
	}
	if c.hasCreateHooks() {
		o.Container.Hooks = &hookOrders{
			CreateContainer: c.host.Hooks.CreateContainer, State: hookState(c.record, specs.StateCreating),
		}
	}
	for _, b := range c.host.Binds {
		o.Container.Binds = append(o.Container.Binds, storage.Bind{
			Source: b.Source, Destination: b.Destination, Guest: b.GuestSource,
			ReadOnly: b.ReadOnly, ReadOnlyBelow: b.ReadOnlyBelow, Recursive: b.Recursive, IDMap: b.IDMap,
		})
	}
	o.Terminal = c.terminal
	return o
}

// guestOnly are the destinations of the file systems that the guest makes:
// nobody on the host can see into them. /proc is another matter, as the shim's
// own view has one.
func guestOnly(guest *specs.Spec) []string {
	var list []string
	for _, m := range guest.Mounts {
		if m.Type != "bind" && m.Type != "proc" {
			list = append(list, m.Destination)
		}
	}
	return list
}

// terminalOf gives the terminal's orders, nil for a process without one.
func terminalOf(p *specs.Process) *terminalOrders {
	if p == nil || !p.Terminal {
		return nil
	}
	t := &terminalOrders{}
	if p.ConsoleSize != nil {
		// #nosec G115 -- a wrong size is a size all the same
		t.Size = &agentproto.TerminalSize{Height: uint32(p.ConsoleSize.Height), Width: uint32(p.ConsoleSize.Width)}
	}
	return t
}

// cgroupsPath is the spec's, or one of our own making.
func (c *creation) cgroupsPath() string {
	switch {
	case c.host.CgroupsPath != "":
		return c.host.CgroupsPath
	case c.r.Systemd:
		return "system.slice:runch:" + c.o.ID
	default:
		return "/runch/" + c.o.ID
	}
}

// commit writes down what was made. The pid-file is the last of it: with it
// callers hold the container for created. The word to the shim comes after.
func (c *creation) commit(ready *readyReport) error {
	err := c.dir.SaveSandbox(&state.Sandbox{
		ID: c.o.ID, Shim: c.record.Shim, Endpoint: state.Endpoint{Unix: ready.Endpoint.Unix, CID: ready.Endpoint.CID},
		VMM: c.vm.Driver, Boot: c.vm.size(), Now: c.vm.size(),
		MaxCPUs: c.vm.MaxCPUs, MaxMemoryMiB: c.vm.MaxMemoryMiB, OverheadMiB: c.vm.OverheadMiB, Dir: c.dir.Path(), Console: filepath.Join(c.dir.Path(), consoleLog),
	})
	if err != nil {
		return err
	}
	c.record.Network.Taps = ready.Taps
	c.record.Ready = true
	if err := c.dir.Save(c.record); err != nil {
		return err
	}
	return handOver(c.shim, c.o.PIDFile)
}

// handOver writes the pid-file and lets the shim live on without us.
func handOver(s *shimProcess, pidFile string) error {
	if err := writePIDFile(pidFile, s.pid()); err != nil {
		return err
	}
	if err := s.channel.send(reply{Commit: true}); err != nil {
		_ = os.Remove(pidFile)
		return err
	}
	s.channel.close()
	return nil
}

// undo takes back what make has made, and gives the reason with what the user
// needs besides: where a VM's last words are, and what could not be undone.
func (c *creation) undo(ctx context.Context, reason error) error {
	if c.shim != nil {
		c.shim.undo()
	}
	if c.dir == nil {
		return reason
	}
	if kept := keptWords(reason.Error(), c.r.Config.LogDir, c.dir.Path(), c.o.ID); kept != "" {
		reason = fmt.Errorf("%w%s", reason, kept)
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	if err := c.r.destroy(ctx, c.dir, c.record); err != nil {
		reason = fmt.Errorf("%w; and undoing it: %w", reason, err)
	}
	return reason
}

// writePIDFile writes the pid as decimal digits and nothing else, in one step.
func writePIDFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	// #nosec G302,G306 -- as runc's: for others to read, where the caller says
	if err := os.WriteFile(tmp, strconv.AppendInt(nil, int64(pid), 10), 0o644); err != nil {
		return fmt.Errorf("write the pid-file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write the pid-file: %w", err)
	}
	return nil
}
