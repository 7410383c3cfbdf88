package callers

import (
	"fmt"
	"regexp"
	"strings"
)

// config.toml belongs to the user, so install changes whole lines of its text and keeps all
// comments. remove recognizes these lines by the comments on them, which therefore must
// not change in later versions.
const (
	blockBegin = "\n# BEGIN runch: written by `runch install containerd`; `runch install containerd --remove` takes it away.\n"
	blockEnd   = "# END runch\n"

	defaultRuntimeKey = "default_runtime_name"
	// ownDefault is an added line. replacedDefault replaces a line, which is kept in its comment.
	ownDefault      = defaultRuntimeKey + ` = "` + runtimeName + `" # added by runch install`
	replacedDefault = defaultRuntimeKey + ` = "` + runtimeName + `" # by runch install, in place of: `
)

var (
	addedLine    = regexp.MustCompile(`(?m)^[ \t]*` + regexp.QuoteMeta(ownDefault) + `\n`)
	replacedLine = regexp.MustCompile(`(?m)^([ \t]*)` + regexp.QuoteMeta(replacedDefault) + `(.*)$`)
	defaultLine  = regexp.MustCompile(`(?m)^([ \t]*)(` + defaultRuntimeKey + `[ \t]*=.*)$`)
	tableLine    = regexp.MustCompile(`(?m)^([ \t]*)\[.*\.[ \t]*containerd[ \t]*\][ \t]*(#.*)?\n`)
)

// containerdConfig is a config.toml without the lines that install has written into it.
type containerdConfig struct {
	// base is its text, values the decoded text, plugin the name of the CRI plugin in it.
	base   string
	values table
	plugin string
	// own says whether install had written a line that makes runch the default.
	own bool
}

// newContainerdFile returns the content of a file where there is none yet.
func newContainerdFile(version int64) string {
	return fmt.Sprintf("%sversion = %d\n", marker("containerd"), version)
}

func readContainerdConfig(s source) (*containerdConfig, error) {
	c := &containerdConfig{base: string(s.before)}
	if s.before == nil {
		// containerd 1 reads version 2 but not 3, containerd 2 reads both.
		version := int64(2)
		if s.version != nil && s.version.major > 1 {
			version = 3
		}
		c.base = newContainerdFile(version)
	}
	if err := c.strip(); err != nil {
		return nil, err
	}
	var err error
	if c.values, err = decode([]byte(c.base)); err != nil {
		return nil, err
	}
	c.plugin = criPlugin(fileVersion(c.values))
	if at(c.values, "plugins", c.plugin, "containerd", "runtimes", runtimeName) != nil {
		return nil, fmt.Errorf("it has a runtime %s, %w: remove that table first", runtimeName, ErrForeign)
	}
	return c, nil
}

// strip removes the lines that install has written.
func (c *containerdConfig) strip() error {
	before, rest, found := strings.Cut(c.base, blockBegin)
	if found {
		block, after, ended := strings.Cut(rest, blockEnd)
		if !ended {
			return fmt.Errorf("it has %q without %q: put that line back, or remove the rest of that block", strings.TrimSpace(blockBegin), strings.TrimSpace(blockEnd))
		}
		c.own = strings.Contains(block, defaultRuntimeKey)
		c.base = before + after
	}
	stripped := addedLine.ReplaceAllString(replacedLine.ReplaceAllString(c.base, "$1$2"), "")
	c.own = c.own || stripped != c.base
	c.base = stripped
	return nil
}

// isDefault tells whether runch is the default now, set by install or by the user.
func (c *containerdConfig) isDefault() bool {
	return c.own || text(c.values, "plugins", c.plugin, "containerd", defaultRuntimeKey) == runtimeName
}

// withDefault changes the line that sets the default runtime, or adds one to its table. If
// there is neither line nor table, it returns the text unchanged. It tries each line that
// looks right until the decoded text has the wanted values.
func (c *containerdConfig) withDefault() (string, error) {
	keys := []string{"plugins", c.plugin, "containerd", defaultRuntimeKey}
	now, isSet := at(c.values, keys...).(string)
	if now == runtimeName {
		return c.base, nil
	}
	want, err := decode([]byte(c.base))
	if err != nil {
		return "", err
	}
	set(want, runtimeName, keys...)
	line, text := tableLine, "${0}${1}  "+ownDefault+"\n"
	if isSet {
		line, text = defaultLine, "${1}"+replacedDefault+"${2}"
	}
	for _, at := range line.FindAllStringSubmatchIndex(c.base, -1) {
		changed := c.base[:at[0]] + string(line.ExpandString(nil, text, c.base, at)) + c.base[at[1]:]
		if holds(changed, want) == nil {
			return changed, nil
		}
	}
	if isSet {
		return "", fmt.Errorf("%w: set %s = %q in it by hand", errUnsafe, defaultRuntimeKey, runtimeName)
	}
	return c.base, nil
}

// losesRunc tells whether containerd would lose its built-in runtime runc with the first
// runtime that the file names: up to containerd 1.7, whose files have version 2 at most,
// the file's table of runtimes replaces the built-in one.
func (c *containerdConfig) losesRunc() bool {
	return fileVersion(c.values) <= 2 && at(c.values, "plugins", c.plugin, "containerd", "runtimes") == nil
}

// block is what is added to the file.
type block struct {
	plugin, program string
	systemdCgroup   *bool
	// isDefault says that the block sets the default runtime, as the file has no table for it.
	isDefault bool
	// withRunc adds containerd's own runtime.
	withRunc bool
}

func (k block) String() string {
	section := "plugins." + k.plugin + ".containerd"
	if strings.Contains(k.plugin, ".") {
		section = `plugins."` + k.plugin + `".containerd`
	}
	var b strings.Builder
	b.WriteString(blockBegin)
	if k.isDefault {
		fmt.Fprintf(&b, "[%s]\n  %s = \"%s\"\n\n", section, defaultRuntimeKey, runtimeName)
	}
	if k.withRunc {
		b.WriteString("# containerd's own, which it would lose by the first that is named here.\n")
		fmt.Fprintf(&b, "[%s.runtimes.runc]\n  runtime_type = \"%s\"\n\n", section, runcShim)
	}
	fmt.Fprintf(&b, "[%s.runtimes.%s]\n  runtime_type = \"%s\"\n\n", section, runtimeName, runcShim)
	fmt.Fprintf(&b, "  [%s.runtimes.%s.options]\n    BinaryName = \"%s\"\n", section, runtimeName, k.program)
	if k.systemdCgroup != nil {
		fmt.Fprintf(&b, "    SystemdCgroup = %t\n", *k.systemdCgroup)
	}
	b.WriteString(blockEnd)
	return b.String()
}
