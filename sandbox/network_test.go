package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"runch/agentproto"
	"runch/namespace"
	"runch/network"
	"runch/state"

	"github.com/vishvananda/netlink"
)

// inNet runs fn in the network namespace of a container on the host.
func inNet(t *testing.T, c *state.Container, fn func(*netlink.Handle) error) {
	t.Helper()
	ns, err := os.Open(nsOf(c, "net"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := namespace.InNet(ns, fn); err != nil {
		t.Fatal(err)
	}
}

// addLink makes a veth in the container's network namespace, with its other end there too.
func addLink(t *testing.T, c *state.Container, name, mac, address string) {
	t.Helper()
	inNet(t, c, func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, 1400
		var err error
		if attrs.HardwareAddr, err = net.ParseMAC(mac); err != nil {
			return err
		}
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer-" + name}); err != nil {
			return err
		}
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return errors.Join(h.AddrAdd(link, addr), h.LinkSetUp(link))
	})
}

func changeLink(t *testing.T, c *state.Container, name string, change func(*netlink.Handle, netlink.Link) error) {
	t.Helper()
	inNet(t, c, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return change(h, link)
	})
}

func deleteLink(t *testing.T, c *state.Container, name string) {
	t.Helper()
	changeLink(t, c, name, func(h *netlink.Handle, l netlink.Link) error { return h.LinkDel(l) })
}

// tapsThere are the names of taps and of links with a redirect in the namespace.
func tapsThere(t *testing.T, c *state.Container) (taps, redirected []string) {
	t.Helper()
	inNet(t, c, func(h *netlink.Handle) error {
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			qdiscs, err := h.QdiscList(l)
			if err != nil {
				return err
			}
			ingress := slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "ingress" })
			switch name := l.Attrs().Name; {
			case strings.HasPrefix(name, "runch"):
				taps = append(taps, name)
			case ingress:
				redirected = append(redirected, name)
			}
		}
		return nil
	})
	return taps, redirected
}

// wantInterfaces compares what the guest has, one "NAME MAC ADDRESS" each, and that the
// host has a tap and a redirect for those and for nothing else.
func (r *rig) wantInterfaces(t *testing.T, id string, want ...string) {
	t.Helper()
	list, err := r.Interfaces(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var got, names, taps []string
	for _, i := range list {
		text := fmt.Sprintf("%s %s %s", i.Name, i.MAC, strings.Join(i.Addresses, ","))
		if i.Stale {
			text += " stale"
		}
		got = append(got, text)
		names = append(names, i.Link)
		taps = append(taps, i.Tap)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the guest has %q, want %q", got, want)
	}
	there, redirected := tapsThere(t, r.mustLoad(t, id))
	slices.Sort(there)
	slices.Sort(taps)
	slices.Sort(names)
	slices.Sort(redirected)
	if !slices.Equal(there, taps) {
		t.Errorf("on the host are the taps %q, want %q", there, taps)
	}
	if !strings.Contains(strings.Join(got, " "), "stale") && !slices.Equal(redirected, names) {
		t.Errorf("on the host are redirects of %q, want %q", redirected, names)
	}
}

func (r *rig) mustAdd(t *testing.T, id string, links ...string) {
	t.Helper()
	if err := r.AddLinks(t.Context(), id, links); err != nil {
		t.Fatalf("add %q: %v", links, err)
	}
}

func (r *rig) mustRemove(t *testing.T, id string, links ...string) {
	t.Helper()
	if err := r.RemoveLinks(t.Context(), id, links); err != nil {
		t.Fatalf("remove %q: %v", links, err)
	}
}

const (
	mac1 = "02:00:00:00:01:01"
	mac2 = "02:00:00:00:01:02"
	mac3 = "02:00:00:00:01:03"

	net1 = "eth1 " + mac1 + " 10.1.0.2/24"
	net2 = "eth2 " + mac2 + " 10.2.0.2/24"
)

func TestLinksComeAndGo(t *testing.T) {
	r := newRig(t)
	c := r.mustCreate(t, "c", nil)
	r.wantInterfaces(t, "c")
	addLink(t, c, "eth1", mac1, "10.1.0.2/24")
	if err := r.Start(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	r.wantInterfaces(t, "c", net1)
	addLink(t, c, "eth2", mac2, "10.2.0.2/24")
	addLink(t, c, "eth3", mac3, "10.3.0.2/24")
	r.wantInterfaces(t, "c", net1)
	r.mustAdd(t, "c", "eth2")
	r.wantInterfaces(t, "c", net1, net2)
	r.mustAdd(t, "c", "eth2") // a second time changes nothing
	r.wantInterfaces(t, "c", net1, net2)
	r.mustRemove(t, "c", "eth1", "eth2")
	r.wantInterfaces(t, "c")
	r.mustAdd(t, "c")
	r.wantInterfaces(t, "c", net1, net2, "eth3 "+mac3+" 10.3.0.2/24")
	deleteLink(t, c, "eth3")
	r.wantInterfaces(t, "c", net1, net2, "eth3 "+mac3+" 10.3.0.2/24 stale")
	r.mustRemove(t, "c", "eth3")
	r.wantInterfaces(t, "c", net1, net2)
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Fatal(err)
	}
}

// What docker does with network disconnect and connect: the address is the same, and with
// it the hardware address; the link is another one.
func TestALinkThatIsReplaced(t *testing.T) {
	r := newRig(t)
	c := r.mustCreate(t, "c", nil)
	addLink(t, c, "eth1", mac1, "10.1.0.2/24")
	addLink(t, c, "eth2", mac2, "10.2.0.2/24")
	r.mustAdd(t, "c")
	deleteLink(t, c, "eth1")
	addLink(t, c, "eth1", mac1, "10.1.0.3/24")
	r.mustAdd(t, "c")
	r.wantInterfaces(t, "c", net2, "eth1 "+mac1+" 10.1.0.3/24")
	// A link with a change that its NIC cannot take over counts as another link.
	changeLink(t, c, "eth2", func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetMTU(l, 1500) })
	changeLink(t, c, "eth1", func(h *netlink.Handle, l netlink.Link) error {
		return h.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 1, 3})
	})
	r.mustAdd(t, "c", "eth1")
	r.wantInterfaces(t, "c", net2, "eth1 "+mac3+" 10.1.0.3/24")
	// So does a link with the index of a former one: nothing redirects it to the tap.
	index := 0
	changeLink(t, c, "eth2", func(_ *netlink.Handle, l netlink.Link) error { index = l.Attrs().Index; return nil })
	deleteLink(t, c, "eth2")
	inNet(t, c, func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index, attrs.HardwareAddr = "eth2", index, net.HardwareAddr{2, 0, 0, 0, 1, 2}
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}); err != nil {
			return err
		}
		link, err := h.LinkByName("eth2")
		if err != nil {
			return err
		}
		return h.LinkSetUp(link)
	})
	r.mustAdd(t, "c")
	r.wantInterfaces(t, "c", "eth1 "+mac3+" 10.1.0.3/24", "eth2 "+mac2+" ")
}

func TestRemovedLinksStayOutUntilTheyAreAskedFor(t *testing.T) {
	r := newRig(t)
	pause := r.mustCreate(t, "pod", sandboxOf("pod"))
	addLink(t, pause, "eth1", mac1, "10.1.0.2/24")
	addLink(t, pause, "eth2", mac2, "10.2.0.2/24")
	if err := r.Start(t.Context(), "pod"); err != nil {
		t.Fatal(err)
	}
	r.mustCreate(t, "a", memberOf(pause.Shim))
	// Any member's id will do: the network is the sandbox's.
	r.mustRemove(t, "a", "eth1")
	r.wantInterfaces(t, "pod", net2)
	if err := r.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	r.wantInterfaces(t, "a", net2)
	r.mustAdd(t, "pod")
	r.wantInterfaces(t, "a", net2, net1)
	s, err := r.Store.LoadSandbox("pod")
	if err != nil || len(s.Network.Removed) != 0 {
		t.Errorf("the record has %+v, %v", s.Network, err)
	}
}

func TestAChangeOfTheNetworkThatFails(t *testing.T) {
	r := newRig(t)
	c := r.mustCreate(t, "c", nil)
	add := func(links ...string) error { return r.AddLinks(t.Context(), "c", links) }
	if err := r.AddLinks(t.Context(), "other", nil); !errors.Is(err, state.ErrNotExist) {
		t.Errorf("an unknown container: %v", err)
	}
	if _, err := r.Interfaces(t.Context(), "other"); !errors.Is(err, state.ErrNotExist) {
		t.Errorf("an unknown container: %v", err)
	}
	addLink(t, c, "eth1", mac1, "10.1.0.2/24")
	if err := add("eth1", "eth9"); !errors.Is(err, ErrNoLink) || !strings.Contains(err.Error(), "eth9") {
		t.Errorf("a link that is not there: %v", err)
	}
	if err := add("lo"); !errors.Is(err, ErrNoLink) {
		t.Errorf("the loopback interface: %v", err)
	}
	r.wantInterfaces(t, "c")
	r.fail(t, "network")
	if err := add(); err == nil || !strings.Contains(err.Error(), "fails as it is to") {
		t.Errorf("a guest that refuses the network: %v", err)
	}
	r.fail(t, "")
	r.wantInterfaces(t, "c")
	r.mustAdd(t, "c")
	if err := r.RemoveLinks(t.Context(), "c", []string{"eth1", "eth9"}); !errors.Is(err, ErrNotMirrored) || !strings.Contains(err.Error(), "eth9") {
		t.Errorf("a link that the guest does not have: %v", err)
	}
	r.fail(t, "unplug")
	if err := r.RemoveLinks(t.Context(), "c", []string{"eth1"}); err == nil || !strings.Contains(err.Error(), "eth1") {
		t.Errorf("a guest that keeps the interface: %v", err)
	}
	r.fail(t, "")
	r.wantInterfaces(t, "c", net1)
	for i := 2; i <= fakeSlots+1; i++ {
		addLink(t, c, fmt.Sprintf("eth%d", i), fmt.Sprintf("02:00:00:00:01:%02x", i), fmt.Sprintf("10.%d.0.2/24", i))
	}
	if err := add(); err == nil || !strings.Contains(err.Error(), "no free hot-plug slot") || !strings.Contains(err.Error(), "runch network remove") {
		t.Errorf("more links than slots: %v", err)
	}
	r.wantInterfaces(t, "c", net1)
	r.mustAdd(t, "c", "eth2")
	r.wantInterfaces(t, "c", net1, net2)
	if err := r.Kill(t.Context(), "c", 9, false); err != nil {
		t.Fatal(err)
	}
	end(t, c.Shim)
	if _, err := r.Interfaces(t.Context(), "c"); !errors.Is(err, state.ErrNotRunning) {
		t.Errorf("ls of a container that has stopped: %v", err)
	}
	if err := add(); !errors.Is(err, state.ErrNotRunning) {
		t.Errorf("add to a container that has stopped: %v", err)
	}
}

// A guest is not trusted: what it says of its interfaces is shown without what is
// malformed, and beside the right tap.
func TestPairInterfaces(t *testing.T) {
	m := func(text string) net.HardwareAddr {
		mac, err := net.ParseMAC(text)
		if err != nil {
			t.Fatal(err)
		}
		return mac
	}
	taps := []state.Tap{
		{Name: "runch2", Link: "ipvl0", MAC: mac1, MTU: 1500},
		{Name: "runch3", Link: "ipvl1", MAC: mac1, MTU: 1500},
		{Name: "runch4", Link: "eth0", MAC: mac2, MTU: 1500},
		{Name: "runch5", Link: "gone", MAC: mac3, MTU: 1500},
	}
	var links []network.Link
	for i, mac := range []string{mac1, mac1, mac2} {
		links = append(links, network.Link{Index: i + 2, MAC: m(mac), MTU: 1500, Attached: true})
	}
	got := pairInterfaces(taps, links, []*agentproto.Interface{
		{Name: "ipvl1", Mac: mac1, Mtu: 1500, Addresses: []string{"10.0.0.3/24"}},
		{Name: "ipvl0", Mac: mac1, Mtu: 1500, Addresses: []string{"10.0.0.2/24", "\x1b[2J", "fd00::2/64"}},
		{Name: "re\nnamed", Mac: mac2, Mtu: 1400},
		{Name: "eth0", Mac: "02:00:00:00:ff:ff"},
	})
	want := []string{
		"{ipvl0 02:00:00:00:01:01 1500 [10.0.0.2/24 fd00::2/64] ipvl0 runch2 false}",
		"{ipvl1 02:00:00:00:01:01 1500 [10.0.0.3/24] ipvl1 runch3 false}",
		"{re named 02:00:00:00:01:02 1400 [] eth0 runch4 false}",
		"{  0 [] gone runch5 true}",
	}
	for i := range want {
		if text := fmt.Sprint(got[i]); text != want[i] {
			t.Errorf("%s, want %s", text, want[i])
		}
	}
}
