package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runc/libcontainer/capabilities"
	"github.com/opencontainers/runc/libcontainer/configs"
	runcvalidate "github.com/opencontainers/runc/libcontainer/configs/validate"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
)

// The tables of this package repeat libcontainer's, which is too heavy for the
// host's binary. These tests compare the two.

func TestDefaultSpecIsRuncs(t *testing.T) {
	if diff := cmp.Diff(specconv.Example(), DefaultSpec()); diff != "" {
		t.Errorf("(-runc +runch):\n%s", diff)
	}
}

func TestTablesAreRuncs(t *testing.T) {
	f := Features()
	withoutNotify := slices.DeleteFunc(seccomp.KnownActions(), func(a string) bool { return a == "SCMP_ACT_NOTIFY" })
	for _, test := range []struct {
		name       string
		runc, ours []string
	}{
		{"hooks", configs.KnownHookNames(), f.Hooks},
		{"mount options", specconv.KnownMountOptions(), f.MountOptions},
		{"namespaces", specconv.KnownNamespaces(), f.Linux.Namespaces},
		{"capabilities", capabilities.KnownCapabilities(), f.Linux.Capabilities},
		{"seccomp actions", withoutNotify, f.Linux.Seccomp.Actions},
		{"seccomp operators", seccomp.KnownOperators(), f.Linux.Seccomp.Operators},
		{"seccomp archs", seccomp.KnownArchs(), f.Linux.Seccomp.Archs},
		{"seccomp flags", seccomp.KnownFlags(), f.Linux.Seccomp.KnownFlags},
		{"memory policy modes", specconv.KnownMemoryPolicyModes(), f.Linux.MemoryPolicy.Modes},
		{"memory policy flags", specconv.KnownMemoryPolicyFlags(), f.Linux.MemoryPolicy.Flags},
	} {
		if diff := cmp.Diff(test.runc, test.ours); diff != "" {
			t.Errorf("%s (-runc +runch):\n%s", test.name, diff)
		}
	}
}

// TestGuestSpecsFitLibcontainer has libcontainer read the golden guest specs.
func TestGuestSpecsFitLibcontainer(t *testing.T) {
	for _, name := range []string{"default", "podman", "containerd"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", "golden", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := json.Unmarshal(data, &g); err != nil {
				t.Fatal(err)
			}
			g.Guest.Root.Path = realTempDir(t)
			// This part depends on the kernel, which is the guest's.
			g.Guest.Linux.Resources.Unified, g.Guest.Linux.Sysctl, g.Guest.Linux.Seccomp = nil, nil, nil
			config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: "c1", Spec: g.Guest})
			if err != nil {
				t.Fatal(err)
			}
			if err := runcvalidate.Validate(config); err != nil {
				t.Error(err)
			}
		})
	}
}
