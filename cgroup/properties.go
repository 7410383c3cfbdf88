package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	systemdDbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// propertyPrefix is that of annotations that set a property of the unit.
const propertyPrefix = "org.systemd.property."

// ErrProperty says that an annotation for systemd is malformed.
var ErrProperty = errors.New("malformed systemd property")

// properties parses the annotations for systemd by runc's rules: behind the prefix
// is the property's name, and the value has the text form of a D-Bus variant. A
// property in seconds (…Sec) becomes systemd's in microseconds (…USec).
func properties(annotations map[string]string) ([]systemdDbus.Property, error) {
	var list []systemdDbus.Property
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, propertyPrefix)
		if !ok {
			continue
		}
		if !isPropertyName(name) {
			return nil, fmt.Errorf("annotations[%q]: %w: a name has three letters or more and nothing else", key, ErrProperty)
		}
		value, err := dbus.ParseVariant(annotations[key], dbus.Signature{})
		if err != nil {
			return nil, fmt.Errorf("annotations[%q]: %w: %w", key, ErrProperty, err)
		}
		if base, ok := inSeconds(name); ok {
			name = base + "USec"
			if value, err = microseconds(value); err != nil {
				return nil, fmt.Errorf("annotations[%q]: %w: %w", key, ErrProperty, err)
			}
		}
		list = append(list, systemdDbus.Property{Name: name, Value: value})
	}
	return list, nil
}

func isPropertyName(name string) bool {
	return len(name) >= 3 && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
}

// inSeconds reports whether a property such as TimeoutStopSec is in seconds, and
// returns its name without the unit. In USec and NSec a capital letter precedes Sec.
func inSeconds(name string) (base string, ok bool) {
	base, ok = strings.CutSuffix(name, "Sec")
	if !ok || base == "" {
		return "", false
	}
	last := base[len(base)-1]
	return base, last >= 'a' && last <= 'z'
}

const perSecond = 1_000_000

// microseconds converts seconds, of any numeric type, to systemd's microseconds.
func microseconds(v dbus.Variant) (dbus.Variant, error) {
	var seconds float64
	switch n := v.Value().(type) {
	case float64:
		seconds = n
	case byte:
		seconds = float64(n)
	case int16:
		seconds = float64(n)
	case uint16:
		seconds = float64(n)
	case int32:
		seconds = float64(n)
	case uint32:
		seconds = float64(n)
	case int64:
		seconds = float64(n)
	case uint64:
		seconds = float64(n)
	default:
		return v, errors.New("seconds are a number")
	}
	us := seconds * perSecond
	if us < 0 || us >= math.MaxUint64 {
		return v, fmt.Errorf("%v seconds are out of range", seconds)
	}
	return dbus.MakeVariant(uint64(us)), nil
}
