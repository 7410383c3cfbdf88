package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/network"
	"runch/shim"
	"runch/storage"

	"golang.org/x/sys/unix"
)

// The files of a sandbox's directory.
const (
	consoleLog = "console.log"
	vmmLog     = "vmm.log"
	treeDir    = "tree"
	fsSocket   = "fs.sock"
)

// guest is a sandbox that its first shim has booted.
type guest struct {
	tree *storage.Tree
	fs   *storage.Server
	vm   hypervisor.VMM
	// lost is closed when the VMM or virtiofsd has ended, vmGone when the VMM has.
	lost, vmGone chan struct{}
	// served is called when a command's connection to the guest is over.
	served func()
	// note is for why the container's end is not known.
	note *os.File
	taps []string
	nics *agentproto.Network
}

// hotplugSlots is how many network interfaces can come after the boot.
const hotplugSlots = 4

// bootContainer boots the sandbox's VM and makes its first container in it.
func (in *inside) bootContainer(ctx context.Context, files shim.Files) (*shim.Process, *guest, error) {
	o := in.orders.Container
	if err := storage.PrivateMounts(); err != nil {
		return nil, nil, err
	}
	tree, err := storage.NewTree(filepath.Join(o.Dir, treeDir))
	if err != nil {
		return nil, nil, fmt.Errorf("make the sandbox's tree: %w", err)
	}
	if o.Hooks != nil {
		if err := in.awaitHooks(ctx, o); err != nil {
			return nil, nil, err
		}
	}
	if err := tree.Share(in.orders.ID, o.Rootfs, o.Binds); err != nil {
		return nil, nil, err
	}
	g := &guest{tree: tree, lost: make(chan struct{}), vmGone: make(chan struct{}), served: in.settle}
	if err := g.boot(ctx, in.orders.ID, o); err != nil {
		return nil, nil, err
	}
	p, err := in.createContainer(ctx, g, files)
	if err != nil {
		return nil, nil, err
	}
	return p, g, nil
}

// awaitHooks lets the command run its hooks, whose mounts in this namespace are
// no longer the host's, and runs those that belong into the container's: at its
// rootfs, before that is shared, so that the guest has what they mount there.
func (in *inside) awaitHooks(ctx context.Context, o *containerOrders) error {
	if err := in.channel.send(report{Namespaced: true}); err != nil {
		return err
	}
	if err := in.proceed(ctx); err != nil {
		return err
	}
	return runHooks(ctx, "createContainer", o.Hooks.CreateContainer, o.Rootfs, o.Hooks.State)
}

// boot starts virtiofsd and the VMM and returns when the agent has said hello.
func (g *guest) boot(ctx context.Context, id string, o *containerOrders) error {
	log, err := newBoundedLog(filepath.Join(o.Dir, vmmLog))
	if err != nil {
		return err
	}
	console, err := newBoundedLog(filepath.Join(o.Dir, consoleLog))
	if err != nil {
		return err
	}
	if g.note, err = newLostNote(o.Dir); err != nil {
		return err
	}
	err = labelled(o.SelinuxLabel, func() (err error) {
		g.fs, err = o.Virtiofsd.Serve(g.tree.Shared(), filepath.Join(o.Dir, fsSocket), log)
		return err
	})
	if err != nil {
		return fmt.Errorf("serve files to the guest: %w", err)
	}
	cfg := &hypervisor.Config{
		Name: id, Dir: o.Dir, Binary: o.VM.Binary, Accel: o.VM.Accel,
		Kernel: o.VM.Kernel, Initramfs: o.VM.Initramfs, Cmdline: o.VM.Cmdline,
		CPUs: o.VM.CPUs, MaxCPUs: o.VM.MaxCPUs, MemoryMiB: o.VM.MemoryMiB, MaxMemoryMiB: o.VM.MaxMemoryMiB,
		Share: &hypervisor.Share{Tag: agentproto.ShareTag, Socket: filepath.Join(o.Dir, fsSocket)},
		Log:   log, Console: console, Served: g.served, HotplugSlots: hotplugSlots, User: o.VM.User,
	}
	if cfg.NICs, err = g.attachNetwork(ctx); err != nil {
		return fmt.Errorf("mirror the network: %w", err)
	}
	if g.vm, err = newVM(o.VM.Driver, cfg); err != nil { //nolint:contextcheck // it serves other commands as long as the VM lives
		if errors.Is(err, unix.ECONNREFUSED) {
			err = g.orServer(err)
		}
		return fmt.Errorf("prepare the VM: %w", err)
	}
	listener, err := g.vm.Listen(agentproto.HelloPort)
	if err != nil {
		return fmt.Errorf("listen for the agent: %w", err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, o.VM.BootTimeout, fmt.Errorf("not within %v (boot_timeout)", o.VM.BootTimeout))
	defer cancel()
	err = labelled(o.SelinuxLabel, func() error { return g.start(ctx) })
	if err != nil {
		return fmt.Errorf("start the VM: %w", g.orServer(err))
	}
	go g.watch()
	return g.awaitHello(ctx, listener)
}

// start boots the VM, unless virtiofsd ends first: a VMM may wait long for one
// that does not answer.
func (g *guest) start(ctx context.Context) error {
	ctx, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	go func() {
		select {
		case <-g.fs.Done():
		case <-ctx.Done():
			return
		}
		// It ends with a VMM that ends, too, whose own reason is the better one.
		select {
		case <-time.After(serverEnd):
			abandon(errNoServer)
		case <-ctx.Done():
		}
	}()
	return g.vm.Boot(ctx)
}

// errNoServer says that there is nobody any more to serve files to the guest.
var errNoServer = errors.New("virtiofsd has ended")

// serverEnd is how long virtiofsd may live on after the VMM, its one client.
const serverEnd = 2 * time.Second

// orServer adds to the error of a VMM that did not start how virtiofsd ended:
// where that failed first, the VMM's own words do not say so.
func (g *guest) orServer(err error) error {
	select {
	case <-g.fs.Done():
		if reason := g.fs.Err(); reason != nil {
			return fmt.Errorf("virtiofsd ended: %w (and %w)", reason, err)
		}
	case <-time.After(serverEnd):
	}
	return err
}

// watch makes one end of the VMM's and virtiofsd's.
func (g *guest) watch() {
	go func() {
		_ = g.vm.Wait()
		close(g.vmGone)
	}()
	select {
	case <-g.vmGone:
	case <-g.fs.Done():
	}
	close(g.lost)
}

// awaitHello waits for the agent's first word.
func (g *guest) awaitHello(ctx context.Context, listener net.Listener) error {
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		_, err = agentproto.ReadHello(conn)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			return nil
		}
		// Where the VM ends, so do its connections, and they are seen first.
		select {
		case <-g.lost:
			return fmt.Errorf("boot the guest: %w", g.lostReason())
		case <-time.After(serverEnd):
		}
		return fmt.Errorf("hear the agent: %w", err)
	case <-g.lost:
		return fmt.Errorf("boot the guest: %w", g.lostReason())
	case <-ctx.Done():
		return fmt.Errorf("boot the guest: the agent has not answered: %w", context.Cause(ctx))
	}
}

// lostReason says which of the two has ended. virtiofsd ends well, and at once,
// when the VMM does: then the VMM's end is the reason.
func (g *guest) lostReason() error {
	select {
	case <-g.fs.Done():
		if err := g.fs.Err(); err != nil {
			return fmt.Errorf("virtiofsd ended: %w", err)
		}
	default:
	}
	select {
	case <-g.vmGone:
		return fmt.Errorf("the VM ended: %w", orClean(g.vm.Wait()))
	case <-time.After(serverEnd):
		return fmt.Errorf("virtiofsd ended: %w", orClean(nil))
	}
}

func orClean(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// attachNetwork mirrors what is in the shim's network namespace.
func (g *guest) attachNetwork(ctx context.Context) ([]hypervisor.NIC, error) {
	links, config, err := network.Scan(ctx, "")
	if err != nil {
		return nil, err
	}
	g.nics = config
	var nics []hypervisor.NIC
	for _, link := range links {
		tap, err := network.Attach(ctx, "", link)
		if err != nil {
			return nil, err
		}
		g.taps = append(g.taps, tap.Name)
		nics = append(nics, hypervisor.NIC{ID: tap.Name, MAC: tap.MAC, MTU: tap.MTU, Tap: tap.Files})
	}
	return nics, nil
}

// createContainer makes the container in the booted guest, and what the host
// sees of it.
func (in *inside) createContainer(ctx context.Context, g *guest, files shim.Files) (*shim.Process, error) {
	o := in.orders.Container
	client, streams, err := connect(ctx, g.vm, files)
	if err != nil {
		return nil, err
	}
	submounts, err := g.tree.Submounts(in.orders.ID)
	if err != nil {
		return nil, err
	}
	_, err = client.Configure(ctx, &agentproto.ConfigureRequest{HostTimeNs: nowNS(), Network: g.nics})
	if err == nil {
		_, err = client.CreateContainer(ctx, &agentproto.CreateContainerRequest{
			ContainerId: in.orders.ID, Spec: o.Spec, Stdio: in.stdio(streams),
			NoNewKeyring: o.NoNewKeyring, NoPivot: o.NoPivot, TerminalSize: in.terminalSize(), Submounts: submounts,
			Bundle: o.Bundle, Share: in.orders.ID,
		})
	}
	if err != nil {
		select {
		case <-g.lost:
			return nil, fmt.Errorf("create the container: %w", g.lostReason())
		default:
			return nil, agentproto.FromAgent(err)
		}
	}
	if o.RootfsReadonly {
		if err := g.tree.Protect(in.orders.ID); err != nil {
			return nil, err
		}
	}
	if err := g.tree.Leave(); err != nil {
		return nil, err
	}
	if err := g.tree.BuildView(in.orders.ID, storage.View{Binds: o.Binds, Tmpfs: o.GuestOnly}); err != nil {
		return nil, fmt.Errorf("build the container's view: %w", err)
	}
	if err := in.ready(&readyReport{Endpoint: g.vm.Endpoint(), Taps: g.taps}); err != nil {
		return nil, err
	}
	return &shim.Process{Container: in.orders.ID, Agent: client, Streams: streams, Terminal: in.slave()}, nil
}
