package callers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
)

const (
	containerdFile = "/etc/containerd/config.toml"
	// runcShim is containerd's shim for programs with runc's command line.
	runcShim = "io.containerd.runc.v2"
)

func containerd() *Caller {
	return &Caller{
		Name:     "containerd",
		next:     "restart containerd, whose containers go on: systemctl restart containerd",
		Use:      "use it by a RuntimeClass: runch install kubernetes",
		program:  "containerd",
		tried:    []string{"1.6", "1.7"},
		file:     func(Host) string { return containerdFile },
		install:  installContainerd,
		remove:   removeContainerd,
		validate: validateContainerd,
		look:     lookAtContainerd,
	}
}

// criPlugin returns the name of the CRI plugin in a configuration file of that version.
// Versions above 3 change other settings only.
func criPlugin(version int64) string {
	switch version {
	case 1:
		return "cri"
	case 2:
		return "io.containerd.grpc.v1.cri"
	default:
		return "io.containerd.cri.v1.runtime"
	}
}

// fileVersion returns the version of a configuration file, 1 if it does not say.
func fileVersion(t table) int64 {
	if version, ok := t["version"].(int64); ok && version > 0 {
		return version
	}
	return 1
}

// installContainerd adds a block for the runtime at the end of config.toml. It does not
// use a file that config.toml imports: up to containerd 1.7 the CRI plugin's section of an
// imported file replaces the whole section of config.toml, whose other settings are lost.
func installContainerd(s source, w Want) (edited, error) {
	c, err := readContainerdConfig(s)
	if err != nil {
		return edited{}, err
	}
	isDefault := whether(w.Default, c.isDefault())
	after, want := c.base, c.values
	inBlock := isDefault && text(want, "plugins", c.plugin, "containerd", defaultRuntimeKey) == ""
	if isDefault {
		if after, err = c.withDefault(); err != nil {
			return edited{}, err
		}
		inBlock = inBlock && after == c.base
	}
	options := table{"BinaryName": w.Program}
	b := block{plugin: c.plugin, program: w.Program, systemdCgroup: c.systemdCgroup(), isDefault: inBlock, withRunc: c.losesRunc()}
	after += b.String()
	if systemd := c.systemdCgroup(); systemd != nil {
		options["SystemdCgroup"] = *systemd
	}
	set(want, table{"runtime_type": runcShim, "options": options}, "plugins", c.plugin, "containerd", "runtimes", runtimeName)
	if isDefault {
		set(want, runtimeName, "plugins", c.plugin, "containerd", defaultRuntimeKey)
	}
	if b.withRunc {
		set(want, table{"runtime_type": runcShim}, "plugins", c.plugin, "containerd", "runtimes", "runc")
	}
	if err := holds(after, want); err != nil {
		return edited{}, fmt.Errorf("%w: add runtime_type = %q and options.BinaryName = %q to the table plugins.%q.containerd.runtimes.%s by hand",
			err, runcShim, w.Program, c.plugin, runtimeName)
	}
	return edited{after: []byte(after), notes: c.notes()}, nil
}

// removeContainerd removes the block, and restores the former default runtime.
func removeContainerd(s source, _ string) (edited, error) {
	c, err := readContainerdConfig(s)
	if err != nil {
		return edited{}, err
	}
	if text(c.values, "plugins", c.plugin, "containerd", defaultRuntimeKey) == runtimeName {
		return edited{}, fmt.Errorf("%s is %q, %w: change it first", defaultRuntimeKey, runtimeName, ErrForeign)
	}
	if c.base == newContainerdFile(fileVersion(c.values)) {
		return edited{}, nil
	}
	return edited{after: []byte(c.base)}, nil
}

// set puts a value at a path of keys.
func set(t table, value any, keys ...string) {
	for _, key := range keys[:len(keys)-1] {
		inner, ok := t[key].(table)
		if !ok {
			inner = make(table)
			t[key] = inner
		}
		t = inner
	}
	t[keys[len(keys)-1]] = value
}

// errUnsafe says that a change would alter other settings of the file too, because of the
// form in which it is written.
var errUnsafe = errors.New("it cannot be changed without changing more of it")

// holds returns an error unless the content has exactly the wanted values.
func holds(content string, want table) error {
	got, err := decode([]byte(content))
	if err != nil {
		return fmt.Errorf("%w (%w)", errUnsafe, err)
	}
	if !reflect.DeepEqual(got, want) {
		return errUnsafe
	}
	return nil
}

// notes returns a note for the user if no plugin reads the block.
func (c *containerdConfig) notes() []string {
	for _, name := range asList(c.values["disabled_plugins"]) {
		if name == "cri" || name == "io.containerd.grpc.v1.cri" {
			return []string{fmt.Sprintf("disabled_plugins of %s has the CRI plugin, by which Kubernetes runs pods, and which alone reads this.", containerdFile)}
		}
	}
	return nil
}

// validateContainerd lets containerd print the configuration as it reads it. The temporary
// file is in the directory of config.toml, as imports may be relative to that.
func validateContainerd(ctx context.Context, v *Version, content []byte) error {
	want, err := decode(content)
	if err != nil {
		return err
	}
	dir := filepath.Dir(containerdFile)
	if !exists(dir) {
		dir = ""
	}
	return aside(dir, content, func(file string) error {
		got, err := dumpContainerd(ctx, v, file)
		if err != nil {
			return err
		}
		if a, b := findContainerd(got), findContainerd(want); !reflect.DeepEqual(a, b) {
			return fmt.Errorf("it would call %q for %s, not %q: another file is in the way", a.Program, runtimeName, b.Program)
		}
		return checkDefault(got)
	})
}

// checkDefault refuses a default runtime that has no table in runtimes: with that,
// containerd would not load the CRI plugin.
func checkDefault(dump table) error {
	for _, version := range []int64{1, 2, 3} {
		section, _ := at(dump, "plugins", criPlugin(version), "containerd").(table)
		name := text(section, defaultRuntimeKey)
		if name != "" && at(section, "runtimes", name) == nil {
			return fmt.Errorf("its %s would be %q, and there is no such table in runtimes: add that first", defaultRuntimeKey, name)
		}
	}
	return nil
}

// dumpContainerd returns the values of a file and of all files that it imports.
func dumpContainerd(ctx context.Context, v *Version, file string) (table, error) {
	out, err := output(ctx, os.Environ(), v.Path, "--config", file, "config", "dump")
	if err != nil {
		return nil, err
	}
	return decode([]byte(out))
}

// findContainerd reads the runtime's table, under each name that the CRI plugin can have.
func findContainerd(t table) Configured {
	var c Configured
	for _, version := range []int64{1, 2, 3} {
		keys := []string{"plugins", criPlugin(version), "containerd"}
		if program := text(t, append(slices.Clone(keys), "runtimes", runtimeName, "options", "BinaryName")...); program != "" {
			c.Program = program
		}
		c.Default = c.Default || text(t, append(keys, defaultRuntimeKey)...) == runtimeName
	}
	return c
}

func lookAtContainerd(ctx context.Context, _ Host, v *Version) (Configured, error) {
	t, err := dumpContainerd(ctx, v, containerdFile)
	return findContainerd(t), err
}

// systemdCgroup returns runc's option SystemdCgroup, so that runch gets the same cgroup
// driver; nil if runc has no such option.
func (c *containerdConfig) systemdCgroup() *bool {
	value, ok := at(c.values, "plugins", c.plugin, "containerd", "runtimes", "runc", "options", "SystemdCgroup").(bool)
	if !ok {
		return nil
	}
	return &value
}
