package agent

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// libcontainer reads the mappings of a user namespace that is joined, and they
// must be the spec's.
func TestJoinedUserNamespaceKeepsItsMappings(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	n := testNamespaces(t)
	pid, end := childIn(t, unix.CLONE_NEWUSER)
	defer end()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/uid_map", pid), []byte("0 100000 65536\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/gid_map", pid), []byte("0 200000 65536\n"), 0); err != nil {
		t.Fatal(err)
	}
	fakeContainer(a, "b").init.pid = pid
	for _, id := range []string{"b", "", ""} { // another container's; the sandbox's, first made, then joined
		linux := asksFor(specs.UserNamespace)
		linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
		linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
		s, err := n.join(t.Context(), []*agentproto.SharedNamespace{{Type: "user", ContainerId: id}}, linux, a.table.get)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
			CgroupName: "a", Spec: &specs.Spec{Root: &specs.Root{Path: "/"}, Linux: linux},
		}); err != nil {
			t.Errorf("user namespace of %q at %q: %v", id, linux.Namespaces[0].Path, err)
		}
		if err := s.pin(pid); err != nil {
			t.Error(err)
		}
		s.finish(nil)
	}
}

func TestWhoMakesTheNetwork(t *testing.T) {
	n := testNamespaces(t)
	join := func(shared []*agentproto.SharedNamespace, types ...specs.LinuxNamespaceType) (*sharing, string) {
		t.Helper()
		spec := asksFor(types...)
		s, err := n.join(t.Context(), shared, spec, nobody)
		if err != nil {
			t.Fatal(err)
		}
		return s, entry(spec, specs.NetworkNamespace).Path
	}
	s, path := join([]*agentproto.SharedNamespace{{Type: "network"}}, specs.NetworkNamespace)
	if s.network || path != agentproto.GuestNetNS {
		t.Errorf("without a user namespace: %q", path)
	}
	if s, path := join(nil, specs.NetworkNamespace, specs.UserNamespace); s.network || path != agentproto.GuestNetNS {
		t.Errorf("with others in the sandbox's network: %q", path)
	}
	n.leave()
	n.leave()
	s, path = join(nil, specs.UserNamespace, specs.NetworkNamespace)
	if !s.network || path != "" || !s.decides {
		t.Errorf("the first with a user namespace: %q", path)
	}
	s.finish(nil)
	n.leave()
	n.made[specs.UserNamespace] = true
	if s, path := join([]*agentproto.SharedNamespace{{Type: "user"}}, specs.UserNamespace, specs.NetworkNamespace); s.network || path != agentproto.GuestNetNS {
		t.Errorf("in the sandbox's user namespace, whose network that is: %q", path)
	}
}
