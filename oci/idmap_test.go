package oci

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// oneID maps root to user 1000.
var oneID = []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}

func TestRefusesIDMaps(t *testing.T) {
	mount := func(m specs.Mount) func(*specs.Spec) {
		m.Destination, m.Source = "/x", "/"
		return func(s *specs.Spec) { s.Mounts = []specs.Mount{m} }
	}
	const noBind, notBoth = "id-mapped mounts are only supported for bind-mounts", "id-mapped mounts must have both uid and gid mappings specified"
	runRefusals(t, testEnvironment(), []refusal{
		{"tmpfs", mount(specs.Mount{Type: "tmpfs", UIDMappings: oneID, GIDMappings: oneID}), `mounts[0].uidMappings: ` + noBind},
		{"tmpfs, option", mount(specs.Mount{Type: "tmpfs", Options: []string{"ro", "idmap"}}), `mounts[0].options[1]: ` + noBind},
		{"uids alone", mount(specs.Mount{Type: "bind", UIDMappings: oneID}), `mounts[0].uidMappings: ` + notBoth},
		{"gids alone", mount(specs.Mount{Type: "bind", GIDMappings: oneID}), `mounts[0].gidMappings: ` + notBoth},
		{
			"none", mount(specs.Mount{Type: "bind", UIDMappings: []specs.LinuxIDMapping{}, GIDMappings: []specs.LinuxIDMapping{}}),
			`mounts[0].uidMappings: ` + notBoth,
		},
		{"no user namespace", mount(specs.Mount{Options: []string{"bind", "idmap"}}), `mounts[0].options[1]: ` + notBoth},
		{
			"user namespace without mappings", func(s *specs.Spec) {
				userNamespace(s)
				s.Linux.GIDMappings = nil
				mount(specs.Mount{Options: []string{"bind", "idmap"}})(s)
			},
			`linux.gidMappings: user namespaces enabled, but no gid mappings found`,
		},
		{
			"another container's user namespace", func(s *specs.Spec) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/1/ns/user"})
				mount(specs.Mount{Options: []string{"bind", "idmap"}})(s)
			},
			`mounts[0].options[1]: ` + notBoth,
		},
		{"no user namespace below", mount(specs.Mount{Options: []string{"rbind", "ridmap"}}), `mounts[0].options[1]: ` + notBoth},
	})
}

// userNamespace adds a user namespace to a spec.
func userNamespace(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: 200000, Size: 65536}}
}

// TestIDMaps checks that the host maps the ids and that the guest does not map them again.
func TestIDMaps(t *testing.T) {
	other := []specs.LinuxIDMapping{{ContainerID: 5, HostID: 6, Size: 7}}
	for _, test := range []struct {
		name   string
		mount  specs.Mount
		change func(*specs.Spec)
		want   *IDMap
	}{
		{"none", specs.Mount{Type: "bind"}, userNamespace, nil},
		{"mappings", specs.Mount{Type: "bind", UIDMappings: oneID, GIDMappings: other}, nil, &IDMap{UIDs: oneID, GIDs: other}},
		{
			"mappings of their own in a user namespace",
			specs.Mount{Options: []string{"rbind", "idmap"}, UIDMappings: oneID, GIDMappings: other},
			userNamespace,
			&IDMap{UIDs: oneID, GIDs: other},
		},
		{
			"below as well",
			specs.Mount{Options: []string{"ridmap", "rbind"}, UIDMappings: oneID, GIDMappings: other},
			nil,
			&IDMap{UIDs: oneID, GIDs: other, Recursive: true},
		},
		{
			"those of the user namespace",
			specs.Mount{Options: []string{"idmap", "rbind", "ridmap"}},
			userNamespace,
			&IDMap{
				UIDs: []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}, GIDs: []specs.LinuxIDMapping{{HostID: 200000, Size: 65536}},
				Recursive: true,
			},
		},
		{
			"the last option",
			specs.Mount{Options: []string{"bind", "ridmap", "idmap"}, UIDMappings: oneID, GIDMappings: oneID},
			nil,
			&IDMap{UIDs: oneID, GIDs: oneID},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := testBundle(t, mustJSON(t, testSpec()))
			if test.change != nil {
				test.change(b.Spec)
			}
			test.mount.Destination, test.mount.Source = "/x", b.Dir
			b.Spec.Mounts = []specs.Mount{test.mount}
			host, guest, err := split(b, "c1", testPlacement(), testEnvironment())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, host.Binds[0].IDMap); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			m := guest.Mounts[0]
			if m.UIDMappings != nil || m.GIDMappings != nil || hasOption(m, "idmap", "ridmap") || !hasOption(m, "bind", "rbind") {
				t.Errorf("the guest's mount is %+v", m)
			}
		})
	}
}

func TestRefusesIDMapOfADevice(t *testing.T) {
	b := testBundle(t, mustJSON(t, testSpec()))
	b.Spec.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Source: "/dev/null", UIDMappings: oneID, GIDMappings: oneID}}
	_, _, err := split(b, "c1", testPlacement(), testEnvironment())
	if want := "mounts[0].uidMappings: /dev/null is the guest's own, which cannot be id-mapped"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
