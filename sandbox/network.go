package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"runch/agentproto"
	"runch/network"
	"runch/plaintext"
	"runch/state"
)

// The errors of AddLinks and RemoveLinks about a link that the caller has named.
var (
	// ErrNoLink says that a link cannot be mirrored, as it is not there.
	ErrNoLink = errors.New("not in the container's network namespace, or nothing to mirror: the loopback interface, a port of a bridge, or down and without an address")
	// ErrNotMirrored says that the guest has no interface for a link.
	ErrNotMirrored = errors.New("the guest has no interface for it (`runch network ls` shows those that it has)")
)

// networkTimeout bounds AddLinks and RemoveLinks. Each interface takes a request to the
// holder, which has a timeout of its own.
const networkTimeout = 3 * time.Minute

// AddLinks brings the guest's network in step with the network namespace of the
// container's sandbox. The guest gets an interface for each of the named links, or for all
// links if none is named. Interfaces that it has already get the present addresses, routes
// and neighbours of their links. Interfaces whose link is gone are unplugged. The error is
// ErrNoLink if a named link is not there, and then nothing was changed. It is
// state.ErrNotRunning if the container has no guest.
func (r *Runtime) AddLinks(ctx context.Context, id string, names []string) error {
	return r.changeLinks(ctx, id, func(ctx context.Context, s *lockedSandbox) (*wiring, error) {
		w, err := s.scanNetwork(ctx, func(name, tap string) bool {
			return len(names) == 0 || slices.Contains(names, name) || s.tap(tap) != nil
		})
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !w.has(name) {
				return nil, fmt.Errorf("link %s: %w", name, ErrNoLink)
			}
		}
		return w, nil
	})
}

// RemoveLinks takes the interfaces of links out of the guest of the container's sandbox,
// and what was made for them in the network namespace. The links themselves stay, and are
// not mirrored again before AddLinks asks for them. The error is ErrNotMirrored if the guest
// has no interface for a link, and then nothing was changed.
func (r *Runtime) RemoveLinks(ctx context.Context, id string, names []string) error {
	return r.changeLinks(ctx, id, func(ctx context.Context, s *lockedSandbox) (*wiring, error) {
		var out []string
		for _, name := range names {
			before := len(out)
			for _, tap := range s.record.Network.Taps {
				if tap.Link == name {
					out = append(out, tap.Name)
				}
			}
			if len(out) == before {
				return nil, fmt.Errorf("link %s: %w", name, ErrNotMirrored)
			}
		}
		w, err := s.scanNetwork(ctx, func(_, tap string) bool { return s.tap(tap) != nil && !slices.Contains(out, tap) })
		if err != nil {
			return nil, err
		}
		s.record.Network.Removed = append(s.record.Network.Removed, out...)
		return w, nil
	})
}

// changeLinks makes the network of a container's guest what plan says.
func (r *Runtime) changeLinks(ctx context.Context, id string, plan func(context.Context, *lockedSandbox) (*wiring, error)) error {
	dir, c, err := r.lockAndLoad(ctx, id)
	if err != nil {
		return err
	}
	defer dir.Close()
	if !hasGuest(c) {
		return state.ErrNotRunning
	}
	s, err := r.lockSandbox(ctx, c.Sandbox)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, networkTimeout)
	defer cancel()
	w, err := plan(ctx, s)
	if err != nil {
		return err
	}
	added, err := s.rewire(ctx, w)
	if err != nil {
		return err
	}
	if err := r.setNetwork(ctx, c, w.config); err != nil {
		return errors.Join(err, s.unplugAll(ctx, added))
	}
	return nil
}

// setNetwork tells the guest what its interfaces shall be.
func (r *Runtime) setNetwork(ctx context.Context, c *state.Container, config *agentproto.Network) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.call(ctx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		_, err := agent.SetNetwork(ctx, &agentproto.SetNetworkRequest{Network: config})
		return err
	})
}

// hasGuest tells whether the container has a guest that can be asked.
func hasGuest(c *state.Container) bool {
	status := c.Status()
	return status != state.StatusStopped && status != state.StatusCreating
}

// Interface is an interface of a guest.
type Interface struct {
	// Name, MAC, MTU (in bytes) and Addresses (with their prefix lengths) are what the
	// guest says; empty where it does not have the interface in the containers' network.
	Name      string   `json:"name"`
	MAC       string   `json:"mac"`
	MTU       int      `json:"mtu"`
	Addresses []string `json:"addresses"`
	// Link is the mirrored link, by the name that it had when it was last scanned, and Tap
	// the device beside it in the network namespace on the host.
	Link string `json:"link"`
	Tap  string `json:"tap"`
	// Stale says that the link is gone, or that another one has taken its place. AddLinks
	// then removes or replaces the interface.
	Stale bool `json:"stale"`
}

// Interfaces lists the mirrored interfaces of a container's guest, one for each tap. The
// error is state.ErrNotRunning if the container has no guest.
func (r *Runtime) Interfaces(ctx context.Context, id string) ([]Interface, error) {
	c, err := r.Store.Load(id)
	if err != nil {
		return nil, err
	}
	if !hasGuest(c) {
		return nil, state.ErrNotRunning
	}
	s, err := r.Store.LoadSandbox(c.Sandbox)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	links, err := network.Links(ctx, netNSOf(s))
	if err != nil {
		return nil, err
	}
	var inGuest []*agentproto.Interface
	err = r.call(ctx, c, func(ctx context.Context, agent agentproto.AgentService) error {
		answer, err := agent.Interfaces(ctx, &agentproto.InterfacesRequest{})
		inGuest = answer.GetInterfaces()
		return err
	})
	if err != nil {
		return nil, err
	}
	return pairInterfaces(s.Network.Taps, links, inGuest), nil
}

// pairInterfaces puts what the guest says together with the taps. Several interfaces may
// have one hardware address (ipvlan): then the name decides, as long as it is the link's.
func pairInterfaces(taps []state.Tap, links []network.Link, inGuest []*agentproto.Interface) []Interface {
	list := make([]Interface, len(taps))
	taken := make(map[*agentproto.Interface]bool)
	for i, tap := range taps {
		list[i] = Interface{Link: tap.Link, Tap: tap.Name, Addresses: []string{}}
		list[i].Stale = !slices.ContainsFunc(links, func(l network.Link) bool { return fits(tap, l) })
	}
	for _, byName := range []bool{true, false} {
		for i, tap := range taps {
			for _, in := range inGuest {
				if list[i].Name != "" || taken[in] || in.GetMac() != tap.MAC || byName && in.GetName() != tap.Link {
					continue
				}
				taken[in] = true
				list[i].say(in)
			}
		}
	}
	return list
}

// say copies what a guest says of an interface, without what is malformed: the guest is
// not trusted.
func (i *Interface) say(in *agentproto.Interface) {
	i.Name, i.MTU = plaintext.Line(in.GetName()), int(in.GetMtu())
	if mac, err := net.ParseMAC(in.GetMac()); err == nil {
		i.MAC = mac.String()
	}
	for _, text := range in.GetAddresses() {
		if p, err := netip.ParsePrefix(text); err == nil {
			i.Addresses = append(i.Addresses, p.String())
		}
	}
}
