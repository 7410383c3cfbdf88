package agent

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"runch/agentproto"
)

func TestCheckNetworkRefuses(t *testing.T) {
	many := make([]string, maxAddresses+1)
	for i := range many {
		many[i] = "10.0.0.1/8"
	}
	tests := map[string]struct {
		change func(*agentproto.Network)
		want   string
	}{
		"too many interfaces": {func(n *agentproto.Network) {
			n.Interfaces = make([]*agentproto.Interface, maxInterfaces+1)
		}, "too many"},
		"too many routes":    {func(n *agentproto.Network) { n.Routes = make([]*agentproto.Route, maxRoutes+1) }, "too many"},
		"too many neighbors": {func(n *agentproto.Network) { n.Neighbors = make([]*agentproto.Neighbor, maxNeighbors+1) }, "too many"},
		"nil interface":      {func(n *agentproto.Network) { n.Interfaces[0] = nil }, "interfaces[0]"},
		"nil route":          {func(n *agentproto.Network) { n.Routes[0] = nil }, "routes[0]"},
		"nil neighbor":       {func(n *agentproto.Network) { n.Neighbors[0] = nil }, "neighbors[0]"},
		"path as name":       {func(n *agentproto.Network) { n.Interfaces[0].Name = "../../x" }, "name has a byte"},
		"dots as name":       {func(n *agentproto.Network) { n.Interfaces[0].Name = ".." }, "reserved"},
		"sysctl as name":     {func(n *agentproto.Network) { n.Interfaces[0].Name = "all" }, "reserved"},
		"loopback":           {func(n *agentproto.Network) { n.Interfaces[0].Name = "lo" }, "reserved"},
		"pattern as name":    {func(n *agentproto.Network) { n.Interfaces[0].Name = "eth%d" }, "name has a byte"},
		"name in transit":    {func(n *agentproto.Network) { n.Interfaces[0].Name = "_runch1" }, "reserved"},
		"long name":          {func(n *agentproto.Network) { n.Interfaces[0].Name = strings.Repeat("e", 16) }, "16 bytes"},
		"no name":            {func(n *agentproto.Network) { n.Interfaces[0].Name = "" }, "0 bytes"},
		"same name":          {func(n *agentproto.Network) { n.Interfaces[1].Name = "eth0" }, "twice"},
		"no mac":             {func(n *agentproto.Network) { n.Interfaces[0].Mac = "" }, "mac"},
		"zero mac":           {func(n *agentproto.Network) { n.Interfaces[0].Mac = "00:00:00:00:00:00" }, "mac"},
		"multicast mac":      {func(n *agentproto.Network) { n.Interfaces[0].Mac = "01:00:5e:00:00:01" }, "mac"},
		"infiniband mac":     {func(n *agentproto.Network) { n.Interfaces[0].Mac = "02:00:5e:10:00:00:00:01" }, "mac"},
		"small mtu":          {func(n *agentproto.Network) { n.Interfaces[0].Mtu = 67 }, "mtu"},
		"big mtu":            {func(n *agentproto.Network) { n.Interfaces[0].Mtu = 65536 }, "mtu"},
		"address alone":      {func(n *agentproto.Network) { n.Interfaces[0].Addresses[0] = "10.0.0.1" }, "address"},
		"multicast address":  {func(n *agentproto.Network) { n.Interfaces[0].Addresses[0] = "224.0.0.1/8" }, "address"},
		"zoned address":      {func(n *agentproto.Network) { n.Interfaces[0].Addresses[0] = "fe80::1%eth0/64" }, "address"},
		"mapped address":     {func(n *agentproto.Network) { n.Interfaces[0].Addresses[0] = "::ffff:10.0.0.1/104" }, "address"},
		"too many addresses": {func(n *agentproto.Network) { n.Interfaces[0].Addresses = many }, "too many"},
		"foreign interface":  {func(n *agentproto.Network) { n.Routes[0].Interface = "eth7" }, "not one of"},
		"other family":       {func(n *agentproto.Network) { n.Routes[0].Family = unix.AF_UNIX }, "family"},
		"family mismatch":    {func(n *agentproto.Network) { n.Routes[0].Family = unix.AF_INET6 }, "destination"},
		"host bits":          {func(n *agentproto.Network) { n.Routes[0].Destination = "10.0.0.1/8" }, "destination"},
		"bad scope":          {func(n *agentproto.Network) { n.Routes[0].Scope = 256 }, "scope"},
		"state flags":        {func(n *agentproto.Network) { n.Routes[0].Flags = unix.RTNH_F_DEAD }, "flags"},
		"kernel's protocol":  {func(n *agentproto.Network) { n.Routes[0].Protocol = unix.RTPROT_KERNEL }, "protocol"},
		"local table":        {func(n *agentproto.Network) { n.Routes[0].Table = unix.RT_TABLE_LOCAL }, "table"},
		"local type":         {func(n *agentproto.Network) { n.Routes[0].Type = unix.RTN_LOCAL }, "type"},
		"blackhole via":      {func(n *agentproto.Network) { n.Routes[4].Gateway = "10.0.0.1" }, "type"},
		"blackhole over":     {func(n *agentproto.Network) { n.Routes[4].Interface = "eth0" }, "interface"},
		"too many rules":     {func(n *agentproto.Network) { n.Rules = make([]*agentproto.Rule, maxRules+1) }, "too many"},
		"nil rule":           {func(n *agentproto.Network) { n.Rules[0] = nil }, "rules[0]"},
		"route mtu":          {func(n *agentproto.Network) { n.Routes[0].Mtu = 1 << 20 }, "mtu"},
		"bad gateway":        {func(n *agentproto.Network) { n.Routes[1].Gateway = "0.0.0.0" }, "gateway"},
		"v4 gateway for v6":  {func(n *agentproto.Network) { n.Routes[2].Gateway = "10.0.0.1" }, "gateway"},
		"bad source":         {func(n *agentproto.Network) { n.Routes[3].Source = "fd00::1" }, "source"},
		"neighbor interface": {func(n *agentproto.Network) { n.Neighbors[0].Interface = "" }, "not one of"},
		"neighbor address":   {func(n *agentproto.Network) { n.Neighbors[0].Address = "::" }, "address"},
		"neighbor mac":       {func(n *agentproto.Network) { n.Neighbors[0].Mac = "x" }, "mac"},
		"neighbor state":     {func(n *agentproto.Network) { n.Neighbors[0].State = unix.NUD_REACHABLE }, "state"},
		"neighbor flags":     {func(n *agentproto.Network) { n.Neighbors[0].Flags = unix.NTF_PROXY }, "flags"},
	}
	rules := map[string]func(*agentproto.Rule){
		"family": func(r *agentproto.Rule) { r.Family = 0 }, "priority": func(r *agentproto.Rule) { r.Priority = 0 },
		"table": func(r *agentproto.Rule) { r.Table = 1 << 31 }, "tos": func(r *agentproto.Rule) { r.Tos = 256 },
		"source":      func(r *agentproto.Rule) { r.Source = "10.0.0.1" },
		"destination": func(r *agentproto.Rule) { r.Destination = "fd00::/64" },
		"interface":   func(r *agentproto.Rule) { r.Input = "../x" },
	}
	for word, change := range rules {
		tests["rule "+word] = struct {
			change func(*agentproto.Network)
			want   string
		}{func(n *agentproto.Network) { change(n.Rules[0]) }, word}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := podNetwork()
			tt.change(n)
			_, err := checkNetwork(n)
			if !errors.Is(err, ErrNetworkField) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ErrNetworkField with %q", err, tt.want)
			}
		})
	}
}

func TestCheckNetworkAccepts(t *testing.T) {
	n := podNetwork()
	n.Routes[1].Gateway = "fe80::1" // RFC 8950: IPv4 over an IPv6 next hop
	plan, err := checkNetwork(n)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.interfaces) != 2 || len(plan.routes) != 6 || len(plan.neighbors) != 1 || plan.routes[1].route.Via == nil {
		t.Errorf("got %+v", plan)
	}
}

// FuzzCheckNetwork: no message makes the check panic, or accept values out of
// bounds.
func FuzzCheckNetwork(f *testing.F) {
	seed, err := proto.Marshal(podNetwork())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		n := &agentproto.Network{}
		if proto.Unmarshal(data, n) != nil {
			return
		}
		plan, err := checkNetwork(n)
		if err != nil {
			if !errors.Is(err, ErrNetworkField) {
				t.Errorf("got %v, want ErrNetworkField", err)
			}
			return
		}
		for _, i := range plan.interfaces {
			if len(i.name) > maxNameLen || strings.ContainsAny(i.name, "/ \x00") || len(i.mac) != 6 {
				t.Errorf("passed interface %+v", i)
			}
		}
		for _, r := range plan.routes {
			if r.route.Dst == nil || len(r.route.Dst.IP) != len(r.route.Dst.Mask) {
				t.Errorf("passed route %+v", r)
			}
		}
	})
}
