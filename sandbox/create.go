package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"runch/agentproto"
	"runch/oci"
	"runch/shimproto"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
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

// Create makes a container, in a VM of its own or in that of its pod, up to the
// point where its process waits for Start. A Create that fails undoes what it has made.
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
	terminal *shimproto.Terminal
	place    *place
	host     *oci.HostPart
	spec     *specs.Spec
	// vm is what to boot, where the sandbox is the container's own.
	vm *plannedVM

	dir    *state.Dir
	record *state.Container
	// sandbox is the one that the container is in.
	sandbox *lockedSandbox
	shim    *shimProcess
}

func (r *Runtime) create(ctx context.Context, o CreateOptions, terminal *shimproto.Terminal, console *os.File) (*shimProcess, error) {
	c := &creation{r: r, o: o, terminal: terminal}
	if err := c.prepare(); err != nil {
		return nil, r.Explain(o.ID, o.Bundle.Spec, err)
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
	return setupTimeout(c.r.Config.BootTimeout) + createHooksTimeout(c.host.Hooks)
}

// errPrivileges says that this process cannot make a container at all.
var errPrivileges = errors.New("mounts and namespaces are for root, here or in a user namespace: podman makes one for a user who is not root, and `podman unshare` runs a command in it")

// prepare collects and checks everything that it can before anything is created.
func (c *creation) prepare() error {
	if os.Geteuid() != 0 {
		return errPrivileges
	}
	var err error
	if c.place, err = c.r.place(c.o.ID, c.o.Bundle.Spec); err != nil {
		return err
	}
	share := rand.Text()
	c.host, c.spec, err = oci.Split(c.o.Bundle, c.o.ID, oci.Placement{
		Shared: path.Join(agentproto.GuestSharedDir, share), SharedMemory: agentproto.GuestMemoryDir, NetNS: agentproto.GuestNetNS,
		Joined: c.place.joined,
	})
	if err != nil {
		return err
	}
	if left := c.host.LeftOut; len(left) > 0 {
		c.r.Log.Debug("the guest's devices take the place of the host's", "left out", strings.Join(left, " "))
	}
	c.r.warnOf(c.spec.Process)
	limits, err := inheritedRlimits()
	if err != nil {
		return err
	}
	c.spec.Process = oci.WithRlimits(c.spec.Process, limits)
	limitStartHooks(c.spec.Hooks)
	if c.place.own {
		if err := c.planVM(); err != nil {
			return err
		}
	}
	creator, err := state.Self()
	if err != nil {
		return fmt.Errorf("identify this process: %w", err)
	}
	c.record = &state.Container{
		Creator: creator, ID: c.o.ID, Sandbox: c.place.sandbox, Share: share,
		OCIVersion: c.o.Bundle.Spec.Version, Bundle: c.o.Bundle.Dir, Rootfs: c.o.Bundle.Rootfs,
		Created: time.Now().UTC(), Annotations: c.o.Bundle.Spec.Annotations, Owner: owner(),
		ResolvConf: resolvConfOf(c.host.Binds),
		Hooks:      c.host.Hooks, StartHooks: startHooksTimeout(c.spec.Hooks),
		Resources: c.host.Resources, Overhead: c.r.overhead(),
	}
	return nil
}

// make creates everything. Each step needs the one before it.
func (c *creation) make(ctx context.Context, console *os.File) error {
	var err error
	if c.dir, err = c.r.newDir(ctx, c.o.ID); err != nil {
		return err
	}
	if err := c.dir.Save(c.record); err != nil {
		return err
	}
	if err := c.enterSandbox(ctx); err != nil {
		return err
	}
	if err := c.startShim(console); err != nil {
		return err
	}
	if !c.place.own {
		// Release the sandbox's lock: other members can be created while this one is.
		if err := c.sandbox.Close(); err != nil {
			return err
		}
	}
	c.addSysctls()
	setup, err := c.setup()
	if err != nil {
		return err
	}
	if err := c.shim.send(ctx, setup); err != nil {
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
	return c.commit(ctx, ready)
}

// enterSandbox locks the container's sandbox and makes the container a member. A VM of
// the container's own does not run yet, because the container's shim boots it. Any other
// VM runs, and is large enough for the container when enterSandbox returns.
func (c *creation) enterSandbox(ctx context.Context) error {
	var err error
	if c.place.own {
		c.sandbox, err = c.r.newSandbox(ctx, c.place, c.o.ID, c.vm, c.host)
	} else {
		c.sandbox, err = c.r.openSandbox(ctx, c)
	}
	if err != nil {
		return err
	}
	return c.sandbox.admit(ctx, c.record)
}

// commit records what was made. It writes the pid-file last, because callers take the
// container for created once that is there, and then sends the shim its commit.
func (c *creation) commit(ctx context.Context, ready *shimproto.Ready) error {
	if c.place.own {
		if err := c.sandbox.setReady(ready); err != nil {
			return err
		}
	}
	c.record.Ready = true
	if err := c.dir.Save(c.record); err != nil {
		return err
	}
	if err := c.sysctlsAreSet(ctx); err != nil {
		return err
	}
	if err := handOver(c.shim, c.o.PIDFile); err != nil {
		return err
	}
	return c.sandbox.Close()
}

// undo undoes what make has done. It returns the reason, with what else the user needs
// to know: where the VM's logs are, and what could not be undone.
func (c *creation) undo(ctx context.Context, reason error) error {
	if c.shim != nil {
		c.shim.undo()
	}
	if c.dir == nil {
		return reason
	}
	if c.sandbox != nil {
		if c.place.own {
			reason = c.sandbox.withLogs(reason)
		} else {
			reason = c.sandbox.endedMeanwhile(ctx, reason)
		}
		reason = errors.Join(reason, c.sandbox.Close()) // destroy takes the lock itself
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	if err := c.r.destroy(ctx, c.dir, c.record); err != nil {
		reason = fmt.Errorf("%w; and undoing it: %w", reason, err)
	}
	return reason
}
