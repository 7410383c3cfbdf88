package cgroup

import (
	"errors"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

func TestPropertiesFromAnnotations(t *testing.T) {
	got, err := properties(map[string]string{
		"org.example":                                  "'untouched'",
		"org.systemd.property.CollectMode":             "'inactive-or-failed'",
		"org.systemd.property.TimeoutStopUSec":         "uint64 7",
		"org.systemd.property.RuntimeMaxSec":           "1.5",
		"org.systemd.property.TimeoutStartSec":         "byte 3",
		"org.systemd.property.After":                   "['a.service', 'b.service']",
		"org.systemd.property.DefaultDependencies":     "false",
		"org.systemd.property.InactiveExitTimestampSe": "1",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]dbus.Variant{
		"CollectMode":             dbus.MakeVariant("inactive-or-failed"),
		"TimeoutStopUSec":         dbus.MakeVariant(uint64(7)),
		"RuntimeMaxUSec":          dbus.MakeVariant(uint64(1_500_000)),
		"TimeoutStartUSec":        dbus.MakeVariant(uint64(3_000_000)),
		"After":                   dbus.MakeVariant([]string{"a.service", "b.service"}),
		"DefaultDependencies":     dbus.MakeVariant(false),
		"InactiveExitTimestampSe": dbus.MakeVariant(int32(1)),
	}
	if len(got) != len(want) {
		t.Errorf("%d properties, want %d", len(got), len(want))
	}
	for _, p := range got {
		if diff := cmp.Diff(want[p.Name].String(), p.Value.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Name, diff)
		}
	}
}

func TestPropertiesRefuse(t *testing.T) {
	for key, value := range map[string]string{
		"Ab": "1", "With-Dash": "1", "": "1", "NoValue": "", "Open": "'", "TimeoutStopSec": "'long'", "BelowSec": "-1", "HugeSec": "1e300",
	} {
		_, err := properties(map[string]string{propertyPrefix + key: value})
		if !errors.Is(err, ErrProperty) || !strings.Contains(err.Error(), propertyPrefix+key) {
			t.Errorf("%s = %s: %v", key, value, err)
		}
	}
}

func TestPropertiesAreForSystemd(t *testing.T) {
	malformed := map[string]string{propertyPrefix + "x": ""}
	if _, err := New("/a", false, Limits{}, malformed); err != nil {
		t.Errorf("cgroupfs: %v", err)
	}
	if _, err := New("a.slice:p:n", true, Limits{}, malformed); !errors.Is(err, ErrProperty) {
		t.Errorf("systemd: %v", err)
	}
}
