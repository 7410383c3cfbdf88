package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultFile and defaultDropIn are the configuration file and the directory of drop-ins,
// which override it; see hier(7).
const (
	DefaultFile   = "/etc/runch/config.toml"
	defaultDropIn = "/etc/runch/config.d"
)

// Options are the sources of settings that override the defaults.
type Options struct {
	// File and DropIn, if not empty, replace /etc/runch/config.toml and
	// /etc/runch/config.d. A File that is named has to exist.
	File, DropIn string
	// Getenv looks a variable up, as os.Getenv does; nil for none.
	Getenv func(string) string
	// Flags are the values that flags gave, by key.
	Flags map[string]string
}

// Load gives the configuration and, for each setting, its value and source.
// Errors wrap errInvalid and name the source and the key.
func Load(o Options) (*Config, []Setting, error) {
	l := &loader{config: Default(), sources: make(map[string]string)}
	for _, load := range []func(Options) error{l.files, l.environment, l.flags} {
		if err := load(o); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errInvalid, err)
		}
	}
	settings := make([]Setting, 0, len(keys()))
	for _, k := range keys() {
		source := l.sources[k.name]
		if source == "" {
			source = "default"
		}
		settings = append(settings, Setting{Key: k.name, Value: k.get(l.config), Source: source})
	}
	return l.config, settings, nil
}

type loader struct {
	config  *Config
	sources map[string]string
}

// set gives a setting the value that source has for it. A relative path is
// relative to dir.
func (l *loader) set(k key, value, source, dir string) error {
	isPath := k.isPath || k.isProgram && strings.Contains(value, "/")
	if isPath && value != "" && !filepath.IsAbs(value) {
		value = filepath.Join(dir, value)
	}
	if err := k.set(l.config, value); err != nil {
		return fmt.Errorf("%s: %s: %w", source, k.name, err)
	}
	l.sources[k.name] = source
	return nil
}

// files reads the main file and then the drop-ins in the order of their names.
func (l *loader) files(o Options) error {
	file, dropIn := o.File, o.DropIn
	if file == "" {
		file = DefaultFile
	}
	if dropIn == "" {
		dropIn = defaultDropIn
	}
	dropIns, err := filepath.Glob(filepath.Join(dropIn, "*.toml"))
	if err != nil {
		return fmt.Errorf("%s: %w", dropIn, err)
	}
	slices.Sort(dropIns)
	for _, path := range append([]string{file}, dropIns...) {
		values, err := readFile(path)
		if errors.Is(err, os.ErrNotExist) && o.File == "" {
			continue
		}
		if err != nil {
			return err
		}
		if err := l.values(path, values); err != nil {
			return err
		}
	}
	return nil
}

// values applies a file's settings in the order of their names, so that a file with
// several errors always gives the same one.
func (l *loader) values(path string, values map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		k, ok := find(name)
		if !ok {
			return fmt.Errorf("%s: unknown key %q", path, name)
		}
		text, err := k.text(values[name])
		if err != nil {
			return fmt.Errorf("%s: %s: %w", path, name, err)
		}
		if err := l.set(k, text, path, filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) environment(o Options) error {
	if o.Getenv == nil {
		return nil
	}
	for _, k := range keys() {
		if value := o.Getenv(k.variable()); value != "" {
			if err := l.fromHere(k, value, k.variable()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loader) flags(o Options) error {
	for _, k := range keys() {
		if value, ok := o.Flags[k.name]; ok {
			if err := l.fromHere(k, value, k.flag()); err != nil {
				return err
			}
		}
	}
	return nil
}

// fromHere sets a value in which a relative path is relative to the working directory.
func (l *loader) fromHere(k key, value, source string) error {
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return l.set(k, value, source, dir)
}
