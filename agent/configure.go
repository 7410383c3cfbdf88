package agent

import (
	"context"
	"errors"
	"sync"

	"runch/agentproto"
)

// guest is what the agent was told of its guest by Configure. It is safe for
// concurrent use.
type guest struct {
	// mu is held while the shared directory is mounted and the interfaces are changed.
	mu         sync.Mutex
	configured bool
	mounted    bool
	network    *agentproto.Network
	// applied says that the containers' network namespace is as network says.
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
	if err := a.guest.configure(ctx, req.GetNetwork(), mountShare); err != nil {
		return nil, joinReason(err, a.moduleErr)
	}
	return &agentproto.ConfigureResponse{}, nil
}

// configure mounts the shared directory and remembers the network. Which
// namespace that is for is known when the first container is made: it is applied
// then, and here only where containers use it already.
func (g *guest) configure(ctx context.Context, n *agentproto.Network, mount func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mounted {
		if err := mount(); err != nil {
			return err
		}
		g.mounted = true
	}
	used := g.applied
	g.configured, g.network, g.applied = true, n, false
	if !used {
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

// applyNetwork makes the containers' interfaces what the host said, if they are
// not so yet.
func (g *guest) applyNetwork(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.applied {
		return nil
	}
	return g.applyLocked(ctx)
}

// reapplyNetwork does so in a namespace that is new.
func (g *guest) reapplyNetwork(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applyLocked(ctx)
}

// changeNetwork makes the interfaces what the host says now, if it says anything.
func (g *guest) changeNetwork(ctx context.Context, n *agentproto.Network) error {
	if n == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.network = n
	return g.applyLocked(ctx)
}

func (g *guest) applyLocked(ctx context.Context) error {
	g.applied = false
	if g.network != nil {
		if len(g.network.GetInterfaces()) > 0 {
			// A driver that is part of the kernel is no module of the image.
			if err := Modprobe(virtioNet); err != nil && !errors.Is(err, errNoModule) {
				return err
			}
		}
		if err := ApplyNetwork(ctx, agentproto.GuestNetNS, g.network); err != nil {
			return err
		}
	}
	g.applied = true
	return nil
}
