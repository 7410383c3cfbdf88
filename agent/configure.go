package agent

import (
	"context"
	"errors"
	"sync"

	"runch/agentproto"
)

// guest is what the agent was told by Configure. It is safe for concurrent use.
type guest struct {
	mountShare   func() error
	applyNetwork func(context.Context, *agentproto.Network) error

	// mu is held while the shared directory is mounted and the interfaces are changed.
	mu         sync.Mutex
	configured bool
	mounted    bool
	network    *agentproto.Network
	// applied says that the containers' network namespace has been made what
	// network says.
	applied bool
}

// Configure gives the guest what it cannot know by itself. A guest that goes on
// from a snapshot gets it again, with its containers as they were.
func (a *Agent) Configure(ctx context.Context, req *agentproto.ConfigureRequest) (*agentproto.ConfigureResponse, error) {
	if _, err := checkNetwork(req.GetNetwork()); err != nil {
		return nil, err
	}
	if err := setClock(req.GetHostTimeNs()); err != nil {
		return nil, err
	}
	if err := a.guest.configure(ctx, req.GetNetwork()); err != nil {
		return nil, joinReason(err, a.moduleErr)
	}
	return &agentproto.ConfigureResponse{}, nil
}

// configure mounts the shared directory and remembers the network. The first
// container decides which namespace that is for (see sharing.addNetwork), so it
// is applied here only where containers have it already.
func (g *guest) configure(ctx context.Context, n *agentproto.Network) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mounted {
		if err := g.mountShare(); err != nil {
			return err
		}
		g.mounted = true
	}
	again := g.applied
	g.configured, g.network, g.applied = true, n, false
	if !again {
		return nil
	}
	return g.applyLocked(ctx)
}

// ready refuses what needs Configure before it has come.
func (g *guest) ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.configured {
		return errNotConfigured
	}
	return nil
}

// joinNetwork makes the containers' interfaces what the host said, if they are
// not so yet.
func (g *guest) joinNetwork(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.applied {
		return nil
	}
	return g.applyLocked(ctx)
}

// moveNetwork gives the interfaces to a new network namespace of the containers.
func (g *guest) moveNetwork(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applyLocked(ctx)
}

// changeNetwork makes the interfaces what the host says now, if it says anything.
func (g *guest) changeNetwork(ctx context.Context, n *agentproto.Network) error {
	if n == nil {
		return nil
	}
	if _, err := checkNetwork(n); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.network = n
	return g.applyLocked(ctx)
}

// applyLocked applies what is remembered. Where that fails, the next container
// tries again.
func (g *guest) applyLocked(ctx context.Context) error {
	g.applied = false
	if g.network != nil {
		if err := g.applyNetwork(ctx, g.network); err != nil {
			return err
		}
	}
	g.applied = true
	return nil
}

// applyToContainers makes the network of the containers what the host says.
func applyToContainers(ctx context.Context, n *agentproto.Network) error {
	if len(n.GetInterfaces()) > 0 {
		// A driver that is part of the kernel is no module of the image.
		if err := Modprobe(virtioNet); err != nil && !errors.Is(err, errNoModule) {
			return err
		}
	}
	return ApplyNetwork(ctx, agentproto.GuestNetNS, n)
}
