package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"runch/agentproto"
)

// newTestNetNS makes a network namespace that goes with the test.
func newTestNetNS(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = home.Close() }()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network: %v", err)
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		t.Fatalf("return to own namespace: %v", back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
}

// testMAC is the hardware address of the n-th NIC.
func testMAC(n int) string { return fmt.Sprintf("02:00:00:00:00:%02x", n) }

// addNIC makes a veth that stands for a NIC: the end called name has the n-th
// hardware address. The other end stays in the namespace, up.
func addNIC(t *testing.T, ns, name string, n int) {
	t.Helper()
	err := inNetNS(ns, func(h *netlink.Handle) error {
		mac, err := net.ParseMAC(testMAC(n))
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = name, mac
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}); err != nil {
			return err
		}
		peer, err := h.LinkByName(name + "-peer")
		if err != nil {
			return err
		}
		return h.LinkSetUp(peer)
	})
	if err != nil {
		t.Fatalf("add NIC %s: %v", name, err)
	}
}

// testScope applies networks from root to target with veths for NICs.
func testScope(root, target string) netScope {
	return netScope{root: root, target: target, isNIC: func(l netlink.Link) bool {
		return l.Type() == "veth" && !strings.HasSuffix(l.Attrs().Name, "-peer")
	}}
}

// apply fails the test when the network cannot be applied.
func apply(t *testing.T, s netScope, n *agentproto.Network) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := applyNetwork(ctx, s, n); err != nil {
		t.Fatal(err)
	}
}

// observed is what a namespace shows, in words that a test can compare.
type observed struct {
	Links, Addresses, Routes, Neighbors, Rules []string
}

// observe reads the namespace's NICs and what hangs on them, without what the
// kernel makes by itself.
func observe(t *testing.T, s netScope) observed {
	t.Helper()
	var o observed
	err := inNetNS(s.target, func(h *netlink.Handle) error {
		nics, err := s.nics(h)
		if err != nil {
			return err
		}
		names := map[int]string{}
		for _, l := range nics {
			a := l.Attrs()
			names[a.Index] = a.Name
			state := "down"
			if a.Flags&net.FlagUp != 0 {
				state = "up"
			}
			o.Links = append(o.Links, fmt.Sprintf("%s %s mtu %d %s", a.Name, a.HardwareAddr, a.MTU, state))
			addrs, err := h.AddrList(l, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			for _, addr := range addrs {
				// The kernel's own link-local address is tentative for a moment.
				if addr.IP.To4() == nil && addr.IP.IsLinkLocalUnicast() {
					continue
				}
				if addr.Flags&unix.IFA_F_TENTATIVE != 0 {
					o.Addresses = append(o.Addresses, "tentative:")
				}
				o.Addresses = append(o.Addresses, a.Name+" "+addr.IPNet.String())
			}
			neighs, err := h.NeighList(a.Index, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			for _, n := range neighs {
				if n.State&unix.NUD_PERMANENT != 0 {
					o.Neighbors = append(o.Neighbors, fmt.Sprintf("%s %s %s", a.Name, n.IP, n.HardwareAddr))
				}
			}
		}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			rules, err := h.RuleList(family)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if r.Table < unix.RT_TABLE_DEFAULT {
					o.Rules = append(o.Rules, r.String())
				}
			}
		}
		routes, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Protocol != unix.RTPROT_KERNEL {
				o.Routes = append(o.Routes, fmt.Sprintf("%s %s via %s src %s scope %d metric %d mtu %d flags %d: %d %d %d",
					names[r.LinkIndex], r.Dst, r.Gw, r.Src, r.Scope, r.Priority, r.MTU, r.Flags&settableRouteFlags,
					r.Protocol, r.Type, r.Table))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]string{o.Addresses, o.Routes, o.Neighbors} {
		sort.Strings(s)
	}
	return o
}

// podNetwork is what a CNI plugin's pod looks like, with a gateway outside
// the prefix for eth1.
func podNetwork() *agentproto.Network {
	return &agentproto.Network{
		Interfaces: []*agentproto.Interface{
			{Name: "eth0", Mac: testMAC(1), Mtu: 1400, Addresses: []string{"10.88.0.5/16", "fd00:1::5/64"}},
			{Name: "eth1", Mac: testMAC(2), Mtu: 1500, Addresses: []string{"192.168.77.9/32"}},
		},
		Routes: []*agentproto.Route{
			{Destination: "169.254.1.1/32", Interface: "eth1", Scope: unix.RT_SCOPE_LINK, Family: unix.AF_INET},
			{Gateway: "10.88.0.1", Interface: "eth0", Metric: 100, Family: unix.AF_INET},
			{Gateway: "fd00:1::1", Interface: "eth0", Metric: 1024, Family: unix.AF_INET6},
			{
				Destination: "172.20.0.0/16", Gateway: "169.254.1.1", Source: "192.168.77.9", Interface: "eth1",
				Flags: unix.RTNH_F_ONLINK, Mtu: 1300, Family: unix.AF_INET, Protocol: unix.RTPROT_STATIC,
			},
			{Destination: "10.66.0.0/16", Type: unix.RTN_BLACKHOLE, Family: unix.AF_INET},
			{Gateway: "10.88.0.9", Interface: "eth0", Family: unix.AF_INET, Table: 100},
		},
		Rules: []*agentproto.Rule{
			{Family: unix.AF_INET, Priority: 1000, Table: 100, Source: "10.88.0.5/32"},
			{Family: unix.AF_INET6, Priority: 1001, Table: 101, Mark: 7, Output: "eth1"},
			{Family: unix.AF_INET, Priority: 32766, Table: 102, Tos: 0x10},
			{Family: unix.AF_INET, Priority: 32767, Table: 103},
		},
		Neighbors: []*agentproto.Neighbor{
			{Address: "169.254.1.1", Mac: "ee:ee:ee:ee:ee:ee", Interface: "eth1", State: unix.NUD_PERMANENT},
		},
	}
}

func TestApplyNetwork(t *testing.T) {
	s := testScope(newTestNetNS(t), newTestNetNS(t))
	// The other way round, so that the names have to be swapped.
	addNIC(t, s.root, "eth0", 2)
	addNIC(t, s.root, "eth1", 1)
	want := observed{
		Links:     []string{"eth0 02:00:00:00:00:01 mtu 1400 up", "eth1 02:00:00:00:00:02 mtu 1500 up"},
		Addresses: []string{"eth0 10.88.0.5/16", "eth0 fd00:1::5/64", "eth1 192.168.77.9/32"},
		Routes: []string{
			" 10.66.0.0/16 via <nil> src <nil> scope 0 metric 0 mtu 0 flags 0: 3 6 254",
			"eth0 0.0.0.0/0 via 10.88.0.1 src <nil> scope 0 metric 100 mtu 0 flags 0: 3 1 254",
			"eth0 0.0.0.0/0 via 10.88.0.9 src <nil> scope 0 metric 0 mtu 0 flags 0: 3 1 100",
			"eth0 ::/0 via fd00:1::1 src <nil> scope 0 metric 1024 mtu 0 flags 0: 3 1 254",
			"eth1 169.254.1.1/32 via <nil> src <nil> scope 253 metric 0 mtu 0 flags 0: 3 1 254",
			"eth1 172.20.0.0/16 via 169.254.1.1 src 192.168.77.9 scope 0 metric 0 mtu 1300 flags 4: 4 1 254",
		},
		Rules: []string{
			"ip rule 1000: from 10.88.0.5/32 to all table 100 ", "ip rule 32766: from all to all table 102 ",
			"ip rule 32767: from all to all table 103 ",
			"ip rule 1001: from all to all table 101 ",
		},
		Neighbors: []string{"eth1 169.254.1.1 ee:ee:ee:ee:ee:ee"},
	}
	for _, call := range []string{"first", "second"} {
		apply(t, s, podNetwork())
		got := observe(t, s)
		sort.Strings(got.Links)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("after the %s call (-want +got):\n%s", call, d)
		}
	}
}

func TestApplyChangedNetwork(t *testing.T) {
	s := testScope(newTestNetNS(t), newTestNetNS(t))
	addNIC(t, s.root, "a", 1)
	addNIC(t, s.root, "b", 2)
	addNIC(t, s.root, "c", 3)
	apply(t, s, podNetwork())
	n := &agentproto.Network{
		Interfaces: []*agentproto.Interface{
			{Name: "eth1", Mac: testMAC(1), Addresses: []string{"10.99.0.5/24"}},
			{Name: "eth0", Mac: testMAC(3), Mtu: 9000, Addresses: []string{"10.98.0.5/24"}},
		},
		Routes: []*agentproto.Route{{Gateway: "10.99.0.1", Interface: "eth1", Family: unix.AF_INET}},
	}
	// eth1's old NIC is not in n, and has to give up its name.
	if err := applyNetwork(t.Context(), s, n); err != nil {
		t.Fatal(err)
	}
	got := observe(t, s)
	sort.Strings(got.Links)
	want := observed{
		Links: []string{
			"_runch-N 02:00:00:00:00:02 mtu 1500 down",
			"eth0 02:00:00:00:00:03 mtu 9000 up", "eth1 02:00:00:00:00:01 mtu 1400 up",
		},
		Addresses: []string{"eth0 10.98.0.5/24", "eth1 10.99.0.5/24"},
		Routes:    []string{"eth1 0.0.0.0/0 via 10.99.0.1 src <nil> scope 0 metric 0 mtu 0 flags 0: 3 1 254"},
	}
	retired := regexp.MustCompile(`^_runch-\d+`)
	for i, l := range got.Links {
		got.Links[i] = retired.ReplaceAllString(l, "_runch-N")
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// NICs that a failed change has left with transit names do not disturb the next change.
func TestApplyAfterANICThatDidNotCome(t *testing.T) {
	s := testScope(newTestNetNS(t), newTestNetNS(t))
	addNIC(t, s.root, "a", 1)
	plan := func(macs ...int) *agentproto.Network {
		n := &agentproto.Network{}
		for i, mac := range macs {
			n.Interfaces = append(n.Interfaces, &agentproto.Interface{Name: fmt.Sprint("eth", i), Mac: testMAC(mac), Mtu: 1500})
		}
		return n
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := applyNetwork(ctx, s, plan(1, 2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a NIC that is not there: %v", err)
	}
	addNIC(t, s.root, "c", 3)
	apply(t, s, plan(3, 1))
	links := observe(t, s).Links
	sort.Strings(links)
	want := []string{"eth0 02:00:00:00:00:03 mtu 1500 up", "eth1 02:00:00:00:00:01 mtu 1500 up"}
	if d := cmp.Diff(want, links); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A rule of the plan without a mask compares all bits of the mark, as the kernel reports.
func TestRulesThatDifferInTheirMask(t *testing.T) {
	mask := func(bits uint32) *uint32 { return &bits }
	rule := func(mark uint32, mask *uint32) *netlink.Rule {
		r := netlink.NewRule()
		r.Mark, r.Mask = mark, mask
		return r
	}
	for _, tt := range []struct {
		want, have *netlink.Rule
		same       bool
	}{
		{rule(7, nil), rule(7, mask(0xffffffff)), true},
		{rule(7, mask(0xff)), rule(7, mask(0xff)), true},
		{rule(0, nil), rule(0, nil), true},
		{rule(7, nil), rule(7, mask(0xff)), false},
		{rule(7, mask(0xf)), rule(7, mask(0xff)), false},
	} {
		p := &netPlan{rules: []*netlink.Rule{tt.want}}
		if found := p.findRule(tt.have) != nil; found != tt.same {
			t.Errorf("the plan's %v is the kernel's %v: %v", tt.want, tt.have, found)
		}
	}
}

func TestListInterfaces(t *testing.T) {
	s := testScope(newTestNetNS(t), newTestNetNS(t))
	addNIC(t, s.root, "a", 1)
	addNIC(t, s.root, "b", 2)
	addNIC(t, s.root, "unused", 3)
	apply(t, s, podNetwork())
	list, err := listInterfaces(s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range list {
		var global []string
		for _, a := range i.GetAddresses() {
			if !strings.HasPrefix(a, "fe80:") { // the kernel's own
				global = append(global, a)
			}
		}
		got = append(got, fmt.Sprintf("%s %s %d %v", i.GetName(), i.GetMac(), i.GetMtu(), global))
	}
	sort.Strings(got)
	want := []string{
		"eth0 02:00:00:00:00:01 1400 [10.88.0.5/16 fd00:1::5/64]",
		"eth1 02:00:00:00:00:02 1500 [192.168.77.9/32]",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSetNetwork(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	f := newFakeConfiguration()
	a.configuration.mountShare, a.configuration.applyNetwork = f.mountShare, f.applyNetwork
	set := func(n *agentproto.Network) error {
		_, err := a.SetNetwork(t.Context(), &agentproto.SetNetworkRequest{Network: n})
		return err
	}
	if err := set(named("eth0")); !errors.Is(err, errNotConfigured) {
		t.Errorf("before Configure: %v", err)
	}
	if err := a.configuration.configure(t.Context(), named("eth0")); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]*agentproto.Network{"none": nil, "bad": named("..")} {
		if err := set(n); codeOf(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := set(named("eth1")); err != nil {
		t.Error(err)
	}
	f.appliedAre(t, "eth1")
}

func TestApplyNothing(t *testing.T) {
	s := testScope(newTestNetNS(t), newTestNetNS(t))
	apply(t, s, nil)
	err := inNetNS(s.target, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err == nil && lo.Attrs().Flags&net.FlagUp == 0 {
			t.Error("loopback is down")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestApplyWaitsForANewNIC(t *testing.T) {
	s := testScope(newTestNetNS(t), newTestNetNS(t))
	n := &agentproto.Network{Interfaces: []*agentproto.Interface{{Name: "eth0", Mac: testMAC(1)}}}
	added := make(chan struct{})
	timer := time.AfterFunc(200*time.Millisecond, func() {
		addNIC(t, s.root, "late", 1)
		close(added)
	})
	defer timer.Stop()
	apply(t, s, n)
	<-added
	if got := observe(t, s).Links; len(got) != 1 || !strings.HasPrefix(got[0], "eth0 ") {
		t.Errorf("got links %v", got)
	}
}

func TestApplyGivesUpOnAMissingNIC(t *testing.T) {
	s := testScope(newTestNetNS(t), newTestNetNS(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	n := &agentproto.Network{Interfaces: []*agentproto.Interface{{Name: "eth0", Mac: testMAC(1)}}}
	err := applyNetwork(ctx, s, n)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), testMAC(1)) {
		t.Errorf("got %v, want the deadline and the NIC's address", err)
	}
}

func TestApplySharedHardwareAddress(t *testing.T) {
	s := testScope(newTestNetNS(t), newTestNetNS(t))
	addNIC(t, s.root, "x", 1)
	addNIC(t, s.root, "y", 1)
	n := &agentproto.Network{Interfaces: []*agentproto.Interface{
		{Name: "net0", Mac: testMAC(1), Addresses: []string{"10.1.0.1/24"}},
		{Name: "net1", Mac: testMAC(1), Addresses: []string{"10.2.0.1/24"}},
	}}
	for range 2 {
		apply(t, s, n)
		got := observe(t, s).Addresses
		if d := cmp.Diff([]string{"net0 10.1.0.1/24", "net1 10.2.0.1/24"}, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}
