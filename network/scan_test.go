package network

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	"runch/agentproto"
)

// prefix parses a prefix that the test wrote.
func prefix(t *testing.T, text string) *net.IPNet {
	t.Helper()
	n, err := netlink.ParseIPNet(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// change runs one change after the other, in the namespace.
func (n *testNamespace) change(t *testing.T, steps ...func(*netlink.Handle) error) {
	t.Helper()
	n.in(t, func(h *netlink.Handle) error {
		for i, step := range steps {
			if err := step(h); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
		}
		return nil
	})
}

// index is a link's index.
func (n *testNamespace) index(t *testing.T, name string) int {
	t.Helper()
	index := 0
	n.in(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName(name)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	})
	return index
}

// mac is a link's hardware address.
func (n *testNamespace) mac(t *testing.T, name string) string {
	t.Helper()
	mac := ""
	n.in(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName(name)
		if err == nil {
			mac = l.Attrs().HardwareAddr.String()
		}
		return err
	})
	return mac
}

func TestScanConfiguration(t *testing.T) {
	pod, outside := newNamespace(t), newNamespace(t)
	pod.addVeth(t, "eth0", "peer0", "10.88.0.5/16", "fd00:1::5/64")
	pod.move(t, "peer0", outside)
	outside.change(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName("peer0")
		if err != nil {
			return err
		}
		return h.LinkSetUp(l)
	})
	eth0 := pod.index(t, "eth0")
	add := func(r netlink.Route) func(*netlink.Handle) error {
		return func(h *netlink.Handle) error { return h.RouteAdd(&r) }
	}
	pod.change(t,
		add(netlink.Route{
			LinkIndex: eth0, Dst: prefix(t, "172.20.0.0/16"), Gw: net.ParseIP("169.254.1.1"), Flags: unix.RTNH_F_ONLINK,
			MTU: 1300, Src: net.ParseIP("10.88.0.5"), Protocol: unix.RTPROT_STATIC,
		}),
		add(netlink.Route{LinkIndex: eth0, Dst: prefix(t, "0.0.0.0/0"), Gw: net.ParseIP("10.88.0.1"), Priority: 100}),
		add(netlink.Route{LinkIndex: eth0, Dst: prefix(t, "::/0"), Gw: net.ParseIP("fd00:1::1")}),
		add(netlink.Route{LinkIndex: eth0, Dst: prefix(t, "169.254.1.1/32"), Scope: unix.RT_SCOPE_LINK}),
		add(netlink.Route{Dst: prefix(t, "10.66.0.0/16"), Type: unix.RTN_BLACKHOLE}),
		add(netlink.Route{LinkIndex: eth0, Dst: prefix(t, "0.0.0.0/0"), Gw: net.ParseIP("10.88.0.9"), Table: 100}),
		func(h *netlink.Handle) error {
			r := netlink.NewRule()
			r.Priority, r.Table, r.Src = 1000, 100, prefix(t, "10.88.0.5/32")
			return h.RuleAdd(r)
		},
		func(h *netlink.Handle) error {
			r := netlink.NewRule() // like a default rule but for its criterion
			r.Priority, r.Table, r.Tos = 32766, unix.RT_TABLE_MAIN, 0x10
			return h.RuleAdd(r)
		},
		func(h *netlink.Handle) error {
			return h.NeighSet(&netlink.Neigh{
				LinkIndex: eth0, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: net.ParseIP("169.254.1.1"),
				HardwareAddr: net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee},
			})
		},
		func(h *netlink.Handle) error {
			return h.NeighSet(&netlink.Neigh{
				LinkIndex: eth0, Family: unix.AF_INET, State: netlink.NUD_REACHABLE, IP: net.ParseIP("10.88.0.1"),
				HardwareAddr: net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 1},
			})
		},
	)
	links, got, err := Scan(within(t), pod.path)
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 || links[0].Name != "eth0" || links[0].Index != eth0 || links[0].MTU != 1400 {
		t.Errorf("got links %+v", links)
	}
	const boot, static, unicast, mainTable = unix.RTPROT_BOOT, unix.RTPROT_STATIC, unix.RTN_UNICAST, unix.RT_TABLE_MAIN
	want := &agentproto.Network{
		Interfaces: []*agentproto.Interface{{
			Name: "eth0", Mac: pod.mac(t, "eth0"), Mtu: 1400, Addresses: []string{"10.88.0.5/16", "fd00:1::5/64"},
		}},
		Routes: []*agentproto.Route{
			{
				Destination: "169.254.1.1/32", Interface: "eth0", Scope: unix.RT_SCOPE_LINK, Family: unix.AF_INET,
				Protocol: boot, Type: unicast, Table: mainTable,
			},
			{Destination: "10.66.0.0/16", Family: unix.AF_INET, Protocol: boot, Type: unix.RTN_BLACKHOLE, Table: mainTable},
			{
				Gateway: "10.88.0.1", Interface: "eth0", Metric: 100, Family: unix.AF_INET,
				Protocol: boot, Type: unicast, Table: mainTable,
			},
			{
				Destination: "172.20.0.0/16", Gateway: "169.254.1.1", Source: "10.88.0.5", Interface: "eth0",
				Flags: unix.RTNH_F_ONLINK, Mtu: 1300, Family: unix.AF_INET, Protocol: static, Type: unicast, Table: mainTable,
			},
			{Gateway: "10.88.0.9", Interface: "eth0", Family: unix.AF_INET, Protocol: boot, Type: unicast, Table: 100},
			{
				Gateway: "fd00:1::1", Interface: "eth0", Metric: 1024, Family: unix.AF_INET6,
				Protocol: boot, Type: unicast, Table: mainTable,
			},
		},
		Rules: []*agentproto.Rule{
			{Family: unix.AF_INET, Priority: 1000, Table: 100, Source: "10.88.0.5/32"},
			{Family: unix.AF_INET, Priority: 32766, Table: unix.RT_TABLE_MAIN, Tos: 0x10},
		},
		Neighbors: []*agentproto.Neighbor{
			{Address: "169.254.1.1", Mac: "ee:ee:ee:ee:ee:ee", Interface: "eth0", State: unix.NUD_PERMANENT},
		},
	}
	sorted := protocmp.SortRepeated(func(a, b *agentproto.Route) bool { return a.String() < b.String() })
	if d := cmp.Diff(want, got, protocmp.Transform(), sorted); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	gatewayed := false
	for _, r := range got.GetRoutes() {
		if r.GetGateway() != "" {
			gatewayed = true
		} else if gatewayed {
			t.Errorf("route %v comes after one with a gateway", r)
		}
	}
}

func TestScanPicksLinks(t *testing.T) {
	pod := newNamespace(t)
	link := func(l netlink.Link, up bool) func(*netlink.Handle) error {
		return func(h *netlink.Handle) error {
			if err := h.LinkAdd(l); err != nil {
				return err
			}
			if !up {
				return nil
			}
			return h.LinkSetUp(l)
		}
	}
	attrs := func(name string) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name = name
		return a
	}
	pod.addVeth(t, "eth0", "peer0", "10.1.0.5/24")
	pod.addVeth(t, "port0", "peer1")
	eth0 := pod.index(t, "eth0")
	macvlan := attrs("mac0")
	macvlan.ParentIndex = eth0
	pod.change(t,
		link(&netlink.Bridge{LinkAttrs: attrs("br0")}, true),
		link(&netlink.Macvlan{LinkAttrs: macvlan, Mode: netlink.MACVLAN_MODE_BRIDGE}, true),
		// pasta and slirp4netns leave a tap like this: up, and not open in any process of the
		// namespace.
		link(&netlink.Tuntap{LinkAttrs: attrs("tap0"), Mode: netlink.TUNTAP_MODE_TAP}, true),
		// No Ethernet, but nothing uses it.
		link(&netlink.Tuntap{LinkAttrs: attrs("tun0"), Mode: netlink.TUNTAP_MODE_TUN}, true),
		link(&netlink.Veth{LinkAttrs: attrs("down0"), PeerName: "down1"}, false),
		func(h *netlink.Handle) error {
			port, err := h.LinkByName("port0")
			if err != nil {
				return err
			}
			br, err := h.LinkByName("br0")
			if err != nil {
				return err
			}
			return h.LinkSetMaster(port, br)
		},
		func(h *netlink.Handle) error {
			l, err := h.LinkByName("down1")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr("10.9.0.1/24")
			if err != nil {
				return err
			}
			return h.AddrAdd(l, addr)
		},
	)
	links, guest, err := Scan(within(t), pod.path)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for i, l := range links {
		got[l.Name] = true
		if i > 0 && links[i-1].Index >= l.Index {
			t.Errorf("links %v are not in the order of their numbers", links)
		}
	}
	want := map[string]bool{"eth0": true, "peer0": true, "peer1": true, "br0": true, "mac0": true, "tap0": true, "down1": true}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(guest.GetInterfaces()) != len(links) {
		t.Errorf("got %d interfaces for %d links", len(guest.GetInterfaces()), len(links))
	}
	for _, l := range links {
		if l.Name != "mac0" && l.Name != "tap0" && l.Name != "eth0" {
			continue
		}
		tap, err := Attach(within(t), pod.path, l)
		if err != nil {
			t.Errorf("attach %s: %v", l.Name, err)
			continue
		}
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestScanRefusesWhatCannotBeMirrored(t *testing.T) {
	t.Run("tunnel in use", func(t *testing.T) {
		pod := newNamespace(t)
		pod.change(t, func(h *netlink.Handle) error {
			a := netlink.NewLinkAttrs()
			a.Name = "tun0"
			l := &netlink.Tuntap{LinkAttrs: a, Mode: netlink.TUNTAP_MODE_TUN}
			if err := h.LinkAdd(l); err != nil {
				return err
			}
			addr, err := netlink.ParseAddr("10.9.0.1/24")
			if err != nil {
				return err
			}
			return errors.Join(h.AddrAdd(l, addr), h.LinkSetUp(l))
		})
		if _, _, err := Scan(within(t), pod.path); !errors.Is(err, ErrUnsupportedLink) {
			t.Errorf("got %v, want ErrUnsupportedLink", err)
		}
	})
	port, first := netlink.NewRule(), netlink.NewRule()
	port.Priority, port.Table, port.Dport = 32766, unix.RT_TABLE_MAIN, netlink.NewRulePortRange(80, 80)
	first.Priority, first.Table, first.Tos = 0, unix.RT_TABLE_LOCAL, 0x10
	for name, rule := range map[string]*netlink.Rule{"a rule for a port, where a default rule is": port, "a rule of priority 0": first} {
		t.Run(name, func(t *testing.T) {
			pod := newNamespace(t)
			pod.change(t, func(h *netlink.Handle) error { return h.RuleAdd(rule) })
			if _, _, err := Scan(within(t), pod.path); !errors.Is(err, ErrUnsupportedRoute) {
				t.Errorf("got %v, want ErrUnsupportedRoute", err)
			}
		})
	}
	t.Run("several next hops", func(t *testing.T) {
		pod := newNamespace(t)
		pod.addVeth(t, "eth0", "peer0", "10.1.0.5/24")
		eth0 := pod.index(t, "eth0")
		pod.change(t, func(h *netlink.Handle) error {
			return h.RouteAdd(&netlink.Route{Dst: prefix(t, "10.7.0.0/16"), MultiPath: []*netlink.NexthopInfo{
				{LinkIndex: eth0, Gw: net.ParseIP("10.1.0.1")}, {LinkIndex: eth0, Gw: net.ParseIP("10.1.0.2")},
			}})
		})
		if _, _, err := Scan(within(t), pod.path); !errors.Is(err, ErrUnsupportedRoute) {
			t.Errorf("got %v, want ErrUnsupportedRoute", err)
		}
	})
}

func TestScanPointToPoint(t *testing.T) {
	pod := newNamespace(t)
	pod.addVeth(t, "eth0", "peer0")
	pod.change(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: prefix(t, "10.5.0.2/32"), Peer: prefix(t, "10.5.0.1/32")}
		return h.AddrAdd(l, addr)
	})
	_, got, err := Scan(within(t), pod.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range got.GetInterfaces() {
		if a := i.GetAddresses(); i.GetName() == "eth0" && (len(a) != 1 || a[0] != "10.5.0.2/32") {
			t.Errorf("got addresses %v", a)
		}
	}
	want := []*agentproto.Route{{
		Destination: "10.5.0.1/32", Source: "10.5.0.2", Interface: "eth0", Scope: unix.RT_SCOPE_LINK,
		Family: unix.AF_INET, Protocol: unix.RTPROT_BOOT,
	}}
	if d := cmp.Diff(want, got.GetRoutes(), protocmp.Transform()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestScanEmptyNamespace(t *testing.T) {
	links, got, err := Scan(within(t), newNamespace(t).path)
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 0 || len(got.GetInterfaces())+len(got.GetRoutes())+len(got.GetRules())+len(got.GetNeighbors()) != 0 {
		t.Errorf("got links %v and network %v", links, got)
	}
}

// TestScanSome: a link that is not wanted may be one that cannot be mirrored.
func TestScanSome(t *testing.T) {
	pod := newNamespace(t)
	pod.addVeth(t, "eth0", "peer0", "10.88.0.5/16")
	pod.in(t, func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN}); err != nil {
			return err
		}
		tun, err := h.LinkByName("tun0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("10.89.0.5/16")
		if err != nil {
			return err
		}
		return h.AddrAdd(tun, addr)
	})
	pod.addVeth(t, "eth1", "peer1", "10.1.0.5/24")
	eth1 := pod.index(t, "eth1")
	pod.change(t, func(h *netlink.Handle) error {
		return h.RouteAdd(&netlink.Route{Dst: prefix(t, "10.7.0.0/16"), MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: eth1, Gw: net.ParseIP("10.1.0.1")}, {LinkIndex: eth1, Gw: net.ParseIP("10.1.0.2")},
		}})
	})
	if _, _, err := Scan(within(t), pod.path); !errors.Is(err, ErrUnsupportedLink) {
		t.Fatalf("all: %v", err)
	}
	links, guest, err := ScanSome(within(t), pod.path, func(name string, _ int) bool { return name == "eth0" })
	if err != nil || len(links) != 1 || links[0].Name != "eth0" || len(guest.GetInterfaces()) != 1 {
		t.Errorf("links %+v, network %v, %v", links, guest, err)
	}
}
