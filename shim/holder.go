package shim

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/network"
	"runch/shimproto"
	"runch/state"
	"runch/storage"
	"runch/unixsocket"

	"golang.org/x/sys/unix"
)

// holder is what holds a sandbox's VM: the VMM, virtiofsd, the shared tree and the
// taps are its own, and end with its process.
type holder struct {
	tree *storage.Tree
	// requests takes the requests of commands, and of the shims of other containers.
	requests *net.UnixListener
	server   *storage.Server
	newVM    NewVMFunc
	vm       hypervisor.VM
	// lost is closed when the VMM or virtiofsd has ended, vmGone when the VMM has.
	lost, vmGone chan struct{}
	// settle is called when something was done for a command.
	settle func()
	// note is the file that says why the container's end is not known.
	note *os.File
	taps []state.Tap
	// tapFiles are this process's descriptors of the taps that the VM boots with. They
	// are closed once the VMM has its own: a tap exists for as long as it is open
	// somewhere.
	tapFiles []*os.File
	// noLocalhost says why the guest does not get connections to localhost.
	noLocalhost error
	// noAnswers says why the network namespace's own sockets get no answers over its
	// links; nil where they do.
	noAnswers error
	nics      *agentproto.Network
	names     *names
	pod       *pod
}

// hotplugSlots is how many network interfaces can come after the boot.
const hotplugSlots = 4

// newHolder makes the shared tree and the socket for requests.
func newHolder(v *shimproto.VM, newVM NewVMFunc, settle func()) (*holder, error) {
	if err := storage.SlaveMounts(); err != nil {
		return nil, err
	}
	tree, err := storage.NewTree(filepath.Join(v.Dir, shimproto.TreeDir))
	if err != nil {
		return nil, fmt.Errorf("make the sandbox's tree: %w", err)
	}
	requests, err := unixsocket.ListenPacket(filepath.Join(v.Dir, shimproto.HolderSocket))
	if err != nil {
		return nil, fmt.Errorf("listen for requests to the sandbox: %w", err)
	}
	return &holder{
		tree: tree, requests: requests, lost: make(chan struct{}), vmGone: make(chan struct{}), newVM: newVM, settle: settle,
	}, nil
}

// boot starts virtiofsd and the VM and returns when the agent has said hello.
func (h *holder) boot(ctx context.Context, v *shimproto.VM) error {
	if err := h.acquire(ctx, v); err != nil {
		return err
	}
	listener, err := h.vm.Listen(agentproto.HelloPort)
	if err != nil {
		return ofVM("listen for the agent", err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, v.BootTimeout, fmt.Errorf("not within %v (boot_timeout)", v.BootTimeout))
	defer cancel()
	err = labelled(v.SelinuxLabel, func() error { return h.start(ctx) })
	if err != nil {
		return ofVM("start the VM", h.orServer(err))
	}
	for _, f := range h.tapFiles {
		_ = f.Close() // nothing was written by it
	}
	h.tapFiles = nil
	go h.watch()
	// This takes the kernel some milliseconds, less than the guest takes to boot.
	localhost := make(chan struct{})
	go func() {
		defer close(localhost)
		h.noLocalhost = h.openLocalhost(ctx, v)
	}()
	err = h.awaitHello(ctx, listener)
	<-localhost
	// A guest that does not come up may have a template that is damaged.
	if t, ok := h.vm.(hypervisor.TemplateDropper); ok && err != nil && !errors.Is(context.Cause(ctx), errUndo) {
		err = errors.Join(err, t.DropTemplate())
	}
	return err
}

// acquire makes everything that the VM needs, and the VM, but does not start it.
func (h *holder) acquire(ctx context.Context, v *shimproto.VM) error {
	log, err := newBoundedLog(filepath.Join(v.Dir, shimproto.VMMLog))
	if err != nil {
		return err
	}
	console, err := newBoundedLog(filepath.Join(v.Dir, shimproto.ConsoleLog))
	if err != nil {
		return err
	}
	if h.note, err = newLostNote(v.Dir); err != nil {
		return err
	}
	if v.NoHugePages {
		if err := forgoHugePages(); err != nil {
			return err
		}
	}
	socket := filepath.Join(v.Dir, shimproto.ShareSocket)
	err = labelled(v.SelinuxLabel, func() (err error) {
		h.server, err = v.Virtiofsd.Serve(h.tree.Shared(), socket, log)
		return err
	})
	if err != nil {
		return ofVM("serve files to the guest", err)
	}
	nics, err := h.mirrorNetwork(ctx)
	if err != nil {
		return fmt.Errorf("mirror the network: %w", err)
	}
	h.vm, err = h.newVM(v.Driver, &hypervisor.Config{
		Name: v.Sandbox, Dir: v.Dir, Binary: v.Binary, Accel: v.Accel, Kernel: v.Kernel, Initramfs: v.Initramfs, Cmdline: v.Cmdline,
		CPUs: v.CPUs, MaxCPUs: v.MaxCPUs, MemoryMiB: v.MemoryMiB, MaxMemoryMiB: v.MaxMemoryMiB,
		Share: &hypervisor.Share{Tag: agentproto.ShareTag, Socket: socket}, NICs: nics,
		Announce: agentproto.KernelParams, SerialPort: agentproto.SerialPort,
		Log: log, Console: console, Served: h.settle, HotplugSlots: hotplugSlots, User: v.User, Templates: v.Templates,
	})
	if err != nil {
		if errors.Is(err, unix.ECONNREFUSED) {
			err = h.orServer(err)
		}
		return ofVM("prepare the VM", err)
	}
	h.names = &names{guest: h.vm, settle: h.settle, servers: make(map[netip.Addr]bool)}
	return nil
}

// mirrorNetwork makes a NIC for each link of this process's network namespace.
func (h *holder) mirrorNetwork(ctx context.Context) ([]hypervisor.NIC, error) {
	links, config, err := network.Scan(ctx, "")
	if err != nil {
		return nil, err
	}
	h.nics = config
	var nics []hypervisor.NIC
	for _, link := range links {
		tap, err := network.Attach(ctx, "", link)
		if err != nil {
			return nil, err
		}
		h.noAnswers = cmp.Or(h.noAnswers, tap.NoAnswers)
		h.taps = append(h.taps, state.Tap{Name: tap.Name, Link: link.Name, MAC: link.MAC.String(), MTU: link.MTU})
		h.tapFiles = append(h.tapFiles, tap.Files...)
		nics = append(nics, hypervisor.NIC{ID: tap.Name, MAC: tap.MAC, MTU: tap.MTU, Tap: tap.Files})
	}
	return nics, nil
}

// seedSize is how many random bytes a guest gets: as many as the key of its kernel's
// generator has.
const seedSize = 32

// configure tells a guest what it cannot know by itself.
func (h *holder) configure(ctx context.Context, agent agentproto.AgentService) error {
	seed := make([]byte, seedSize)
	_, _ = rand.Read(seed) // it never fails
	_, err := agent.Configure(ctx, &agentproto.ConfigureRequest{HostTimeNs: time.Now().UnixNano(), Network: h.nics, Seed: seed})
	if err != nil {
		return &shimproto.VMError{Err: h.orLost("configure the guest", agentproto.FromAgent(err))}
	}
	return nil
}

// ready is the report about the VM for the command.
func (h *holder) ready() *shimproto.Ready {
	r := &shimproto.Ready{Endpoint: h.vm.Endpoint(), Taps: h.taps}
	if h.noLocalhost != nil {
		r.NoLocalhost = h.noLocalhost.Error()
	}
	if h.noAnswers != nil {
		r.NoAnswers = h.noAnswers.Error()
	}
	return r
}

// awaitHello waits for the agent's hello.
func (h *holder) awaitHello(ctx context.Context, listener net.Listener) error {
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
		// The connections of a VM that ends are closed before its own end is seen.
		select {
		case <-h.lost:
			return ofVM("boot the guest", h.lostReason())
		case <-time.After(serverEnd):
		}
		return ofVM("wait for the agent's hello", err)
	case <-h.lost:
		return ofVM("boot the guest", h.lostReason())
	case <-ctx.Done():
		return ofVM("boot the guest: the agent has not answered", context.Cause(ctx))
	}
}
