package oci

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestAllowsEveryDevice(t *testing.T) {
	every := specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}
	none := specs.LinuxDeviceCgroup{Access: "rwm"}
	for name, test := range map[string]struct {
		rules []specs.LinuxDeviceCgroup
		want  bool
	}{
		"no rules":              {},
		"podman's":              {[]specs.LinuxDeviceCgroup{every}, true},
		"of type a":             {[]specs.LinuxDeviceCgroup{none, {Allow: true, Type: "a", Access: "mrw"}}, true},
		"with wildcards":        {[]specs.LinuxDeviceCgroup{{Allow: true, Major: ptr(int64(-1)), Minor: ptr(int64(-1)), Access: "rwm"}}, true},
		"but for one":           {[]specs.LinuxDeviceCgroup{every, {Type: "c", Major: ptr(int64(10)), Access: "rwm"}}, true},
		"taken back":            {[]specs.LinuxDeviceCgroup{every, none}, false},
		"to read":               {[]specs.LinuxDeviceCgroup{{Allow: true, Access: "r"}}, false},
		"all block devices":     {[]specs.LinuxDeviceCgroup{{Allow: true, Type: "b", Access: "rwm"}}, false},
		"all of a driver":       {[]specs.LinuxDeviceCgroup{{Allow: true, Major: ptr(int64(10)), Access: "rwm"}}, false},
		"all of a minor number": {[]specs.LinuxDeviceCgroup{{Allow: true, Minor: ptr(int64(10)), Access: "rwm"}}, false},
	} {
		if got := allowsEveryDevice(&specs.Linux{Resources: &specs.LinuxResources{Devices: test.rules}}); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if allowsEveryDevice(&specs.Linux{}) {
		t.Error("a spec without limits allows every device")
	}
}

func TestPrivilegedLeavesTheHostsDevicesOut(t *testing.T) {
	spec := testSpec()
	spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
	fuse := specs.LinuxDevice{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}
	strange := specs.LinuxDevice{Path: "/dev/nobodys", Type: "b", Major: 8, Minor: 666}
	spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/autofs", Type: "c", Major: 10, Minor: 235},
		fuse,
		{Path: "/dev/sda", Type: "b", Major: 8},
		strange,
		{Path: "/dev/fifo", Type: "p", Major: 8},
	}
	host, guest, err := split(testBundle(t, mustJSON(t, spec)), "c1", testPlacement(), testEnvironment())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/dev/autofs", "/dev/sda"}, host.LeftOut); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]specs.LinuxDevice{fuse, strange, {Path: "/dev/fifo", Type: "p"}}, guest.Linux.Devices); diff != "" {
		t.Errorf("the guest's (-want +got):\n%s", diff)
	}
	// Asked for by itself, the same device is refused.
	spec.Linux.Resources.Devices[0].Access = "rw"
	if err := validate(spec, testEnvironment()); err == nil {
		t.Error("a device of the host is taken from a container that may not use every one")
	}
}
