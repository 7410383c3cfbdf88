package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"runch/agentproto"
	"runch/hypervisor"
	"runch/network"
	"runch/state"
)

// wiring is the part of a sandbox's network namespace that its guest is to have.
type wiring struct {
	links  []network.Link
	config *agentproto.Network
}

// has reports whether a link of that name is to be there.
func (w *wiring) has(name string) bool {
	return slices.ContainsFunc(w.links, func(l network.Link) bool { return l.Name == name })
}

// scanNetwork scans the namespace for the links that want picks by their names and the
// names that their taps have or would have. It also forgets the removed links that are gone.
func (s *lockedSandbox) scanNetwork(ctx context.Context, want func(name, tap string) bool) (*wiring, error) {
	there := make(map[string]bool)
	links, config, err := network.ScanSome(ctx, netNSOf(s.record), func(name string, index int) bool {
		tap := network.TapName(network.Link{Index: index})
		there[tap] = true
		return want(name, tap)
	})
	if err != nil {
		return nil, err
	}
	s.record.Network.Removed = slices.DeleteFunc(s.record.Network.Removed, func(tap string) bool { return !there[tap] })
	return &wiring{links: links, config: config}, nil
}

// rewire gives the running VM a NIC for each link of w and no other. NICs whose link is
// not in w, or has become another one, are unplugged first, so that no hardware address
// is there twice. It returns the names of the new taps; where one cannot be plugged, the
// new ones are unplugged again.
func (s *lockedSandbox) rewire(ctx context.Context, w *wiring) (added []string, err error) {
	for _, tap := range slices.Clone(s.record.Network.Taps) {
		if !slices.ContainsFunc(w.links, func(l network.Link) bool { return fits(tap, l) }) {
			if err := s.unplug(ctx, tap); err != nil {
				return nil, err
			}
		}
	}
	for _, link := range w.links {
		name := network.TapName(link)
		if tap := s.tap(name); tap != nil {
			tap.Link = link.Name
			continue
		}
		if err := s.plug(ctx, link); err != nil {
			return nil, errors.Join(err, s.unplugAll(ctx, added))
		}
		added = append(added, name)
	}
	s.record.Network.Removed = slices.DeleteFunc(s.record.Network.Removed, func(tap string) bool { return s.tap(tap) != nil })
	return added, s.Save(s.record)
}

// fits reports whether the NIC of a tap can be that of the link as it is now. The link may
// be a new one with the index, and so the tap's name, of a former one. A NIC's hardware
// address cannot change, and its MTU cannot grow beyond the one that it was made with.
func fits(tap state.Tap, link network.Link) bool {
	return tap.Name == network.TapName(link) && link.Attached &&
		(tap.MAC == "" || tap.MAC == link.MAC.String()) && (tap.MTU == 0 || link.MTU <= tap.MTU)
}

// tap is the record of a tap, nil for none.
func (s *lockedSandbox) tap(name string) *state.Tap {
	taps := s.record.Network.Taps
	i := slices.IndexFunc(taps, func(t state.Tap) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return &taps[i]
}

// plug mirrors one more link into a running VM. It records the tap before the VM gets the
// NIC, so that a later command finds the NIC even if this one is killed in between.
func (s *lockedSandbox) plug(ctx context.Context, link network.Link) error {
	tap, err := network.Attach(ctx, netNSOf(s.record), link)
	if err != nil {
		return err
	}
	if tap.NoAnswers != nil {
		s.noAnswers(tap.NoAnswers.Error())
	}
	made := state.Tap{Name: tap.Name, Link: link.Name, MAC: tap.MAC.String(), MTU: tap.MTU}
	s.record.Network.Taps = append(s.record.Network.Taps, made)
	err = s.Save(s.record)
	if err == nil {
		err = s.holder().AddNIC(hypervisor.NIC{ID: tap.Name, MAC: tap.MAC, MTU: tap.MTU, Tap: tap.Files})
	}
	// The VMM has its own copies.
	if err = errors.Join(err, tap.Close()); err != nil {
		return errors.Join(fmt.Errorf("link %s: %w", link.Name, err), s.unplugAll(ctx, []string{made.Name}))
	}
	return nil
}

// unplug takes a NIC out of a running VM, if it has it, with the tap and the redirect of
// its link. The link may be gone.
func (s *lockedSandbox) unplug(ctx context.Context, tap state.Tap) error {
	ns := netNSOf(s.record)
	plugged, err := network.HasTap(ctx, ns, tap.Name)
	if err == nil && plugged {
		err = s.holder().RemoveNIC(tap.Name)
	}
	if err == nil {
		err = network.DetachLink(ctx, ns, tap.Name)
	}
	if err != nil {
		return fmt.Errorf("take link %s out of the guest: %w", tap.Link, err)
	}
	s.record.Network.Taps = slices.DeleteFunc(s.record.Network.Taps, func(t state.Tap) bool { return t.Name == tap.Name })
	return s.Save(s.record)
}

// unplugAll undoes what rewire has added. It has a timeout of its own: it may be called
// because ctx has ended.
func (s *lockedSandbox) unplugAll(ctx context.Context, taps []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	var errs []error
	for _, name := range taps {
		if tap := s.tap(name); tap != nil {
			errs = append(errs, s.unplug(ctx, *tap))
		}
	}
	return errors.Join(errs...)
}
