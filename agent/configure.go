package agent

import (
	"context"
	"sync"

	"runch/agentproto"
)

// configuration is what the agent was told by Configure. It is safe for concurrent use.
type configuration struct {
	mountShare   func(context.Context) error
	applyNetwork func(context.Context, *agentproto.Network) error

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
	if err := addEntropy(req.GetSeed()); err != nil {
		return nil, err
	}
	if err := a.configuration.configure(ctx, req.GetNetwork()); err != nil {
		return nil, joinReason(err, a.moduleErr)
	}
	return &agentproto.ConfigureResponse{}, nil
}

// configure mounts the shared directory and remembers the network. The first
// container decides which namespace that is for (see sharing.addNetwork), so it
// is applied here only where containers have it already.
func (c *configuration) configure(ctx context.Context, n *agentproto.Network) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mounted {
		if err := c.mountShare(ctx); err != nil {
			return err
		}
		c.mounted = true
	}
	again := c.applied
	c.configured, c.network, c.applied = true, n, false
	if !again {
		return nil
	}
	return c.applyLocked(ctx)
}

// ready gives errNotConfigured before Configure has mounted the shared directory.
func (c *configuration) ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.configured {
		return errNotConfigured
	}
	return nil
}

// joinNetwork applies the network that the host gave to the containers' namespace,
// if that is not done yet.
func (c *configuration) joinNetwork(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.applied {
		return nil
	}
	return c.applyLocked(ctx)
}

// moveNetwork gives the interfaces to a new network namespace of the containers.
func (c *configuration) moveNetwork(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applyLocked(ctx)
}

// changeNetwork applies the network that the host gives now; nil changes nothing.
func (c *configuration) changeNetwork(ctx context.Context, n *agentproto.Network) error {
	if n == nil {
		return nil
	}
	if _, err := checkNetwork(n); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.network = n
	return c.applyLocked(ctx)
}

// applyLocked applies the remembered network. If that fails, the next container
// tries again.
func (c *configuration) applyLocked(ctx context.Context) error {
	c.applied = false
	if c.network != nil {
		if err := c.applyNetwork(ctx, c.network); err != nil {
			return err
		}
	}
	c.applied = true
	return nil
}

// applyToContainers makes the network of the containers what the host says.
func applyToContainers(ctx context.Context, n *agentproto.Network) error {
	if len(n.GetInterfaces()) > 0 {
		if err := loadDriver(virtioNet); err != nil {
			return err
		}
	}
	return ApplyNetwork(ctx, agentproto.GuestNetNS, n)
}
