package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// annotationPrefix begins the annotations of a container that change a setting:
// org.runch.hypervisor is the setting hypervisor.
const annotationPrefix = "org.runch."

// Annotate returns a copy of the configuration with a container's annotations applied. An
// annotation for a setting that does not exist, or that the configuration does not let
// annotations change, is an error: otherwise the container would get another VM than it
// asks for.
func (c *Config) Annotate(annotations map[string]string) (*Config, error) {
	changed := *c
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		setting, ours := strings.CutPrefix(name, annotationPrefix)
		if !ours {
			continue
		}
		k, ok := find(setting)
		if !ok || !slices.Contains(annotatable, setting) {
			return nil, fmt.Errorf("%w: annotation %s: there is no such setting for annotations", errInvalid, name)
		}
		if !slices.Contains(c.Annotations, setting) {
			return nil, fmt.Errorf("%w: annotation %s: the configuration (annotations) does not allow it", errInvalid, name)
		}
		if err := k.set(&changed, annotations[name]); err != nil {
			return nil, fmt.Errorf("%w: annotation %s: %w", errInvalid, name, err)
		}
	}
	return &changed, nil
}
