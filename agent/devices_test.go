package agent

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The kernel that the test runs on stands for the guest's.
func TestGuestDevicesComeBesideThoseOfTheSpec(t *testing.T) {
	own := specs.LinuxDevice{Path: "/dev//null", Type: "c", Major: 1, Minor: 5}
	l := &specs.Linux{Devices: []specs.LinuxDevice{own}}
	if err := addGuestDevices(l); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(own, l.Devices[0]); diff != "" {
		t.Errorf("the spec's own (-want +got):\n%s", diff)
	}
	var zero *specs.LinuxDevice
	for i, d := range l.Devices {
		if i > 0 && d.Path == "/dev/null" {
			t.Error("a node that the spec lists comes twice")
		}
		if d.Path == "/dev/zero" {
			zero = &l.Devices[i]
		}
	}
	if zero == nil || zero.Type != "c" || zero.Major != 1 || zero.Minor != 5 || zero.FileMode.Perm() != 0o666 {
		t.Errorf("/dev/zero is %+v", zero)
	}
}

func TestDeviceModulesAreLoaded(t *testing.T) {
	list := fakeImage(t, map[string]string{
		"loop":    "alias=devname:loop-control alias=char-major-10-237 depends=",
		"tun":     "alias=char-major-10-200 alias=devname:net/tun depends=needed",
		"needed":  "depends=",
		"overlay": "alias=fs-overlay depends=",
	})
	var loaded []string
	err := loadDeviceModules(list, func(p string) error {
		loaded = append(loaded, strings.TrimSuffix(filepath.Base(p), ".ko"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(loaded)
	if diff := cmp.Diff([]string{"loop", "needed", "tun"}, loaded); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
