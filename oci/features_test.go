package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"runch/oci/schematest"
)

func TestFeaturesSchema(t *testing.T) {
	schematest.Check(t, "features-schema.json", mustJSON(t, Features()))
}

// TestSpecSchema checks what spec writes and what the guest gets against the schema of
// config.json.
func TestSpecSchema(t *testing.T) {
	schematest.Check(t, "config-schema.json", mustJSON(t, DefaultSpec()))
	rootless := DefaultSpec()
	Rootless(rootless)
	schematest.Check(t, "config-schema.json", mustJSON(t, rootless))
	for _, name := range []string{"default", "podman", "containerd"} {
		data, err := os.ReadFile(filepath.Join("testdata", "golden", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var g struct {
			Guest json.RawMessage `json:"guest"`
		}
		if err := json.Unmarshal(data, &g); err != nil {
			t.Fatal(err)
		}
		schematest.Check(t, "config-schema.json", g.Guest)
	}
}

// TestFeaturesAreHonoured checks that validation accepts what the list has.
func TestFeaturesAreHonoured(t *testing.T) {
	f := Features()
	for _, option := range f.MountOptions {
		spec := testSpec()
		spec.Mounts = []specs.Mount{{Destination: "/x", Type: "tmpfs", Source: "/x", Options: []string{option}}}
		if err := validate(spec, testEnvironment()); err != nil {
			t.Errorf("option %s: %v", option, err)
		}
	}
	if !slices.Contains(f.MountOptions, "rro") || !*f.Linux.MountExtensions.IDMap.Enabled {
		t.Errorf("features that callers ask for: %v, %t", f.MountOptions, *f.Linux.MountExtensions.IDMap.Enabled)
	}
	if len(f.Linux.Capabilities) != 41 {
		t.Errorf("%d capabilities", len(f.Linux.Capabilities))
	}
}

func TestDefaultSpecIsFit(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){"default": func(*specs.Spec) {}, "rootless": Rootless} {
		t.Run(name, func(t *testing.T) {
			spec := DefaultSpec()
			change(spec)
			if _, err := Load(writeBundle(t, mustJSON(t, spec))); err != nil {
				t.Error(err)
			}
		})
	}
}
