package commands

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"runch/config"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

const manDir = "../docs/man"

// page reads a manual page's source.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(manDir, name+".md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dashed are a flag's names as they are typed.
func dashed(f cli.Flag) []string {
	var names []string
	for _, name := range f.Names() {
		if len(name) == 1 {
			names = append(names, "-"+name)
		} else {
			names = append(names, "--"+name)
		}
	}
	return names
}

// flagsOf returns the flags of a command and of its subcommands.
func flagsOf(c *cli.Command) []string {
	var names []string
	for _, f := range c.Flags {
		names = append(names, dashed(f)...)
	}
	for _, sub := range c.Subcommands {
		names = append(names, flagsOf(sub)...)
	}
	return names
}

var (
	optionLine = regexp.MustCompile(`(?m)^\*\*-.*$`)
	option     = regexp.MustCompile(`\*\*(--?[a-zA-Z][a-zA-Z0-9-]*)\*\*`)
	longOption = regexp.MustCompile(`(?:^|[^\w-])(--[a-z][a-z0-9-]*)`)
	reference  = regexp.MustCompile(`\*\*(runch[a-z-]*)\*\*\((\d)\)`)
	setting    = regexp.MustCompile(`(?m)^\*\*([a-z\\_]+)\*\* = `)
	link       = regexp.MustCompile(`\]\(([^)#]+)`)
)

// described are the options that a page has a paragraph for.
func described(text string) []string {
	var names []string
	for _, line := range optionLine.FindAllString(text, -1) {
		for _, match := range option.FindAllStringSubmatch(line, -1) {
			names = append(names, match[1])
		}
	}
	return names
}

// same compares sets.
func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
		t.Errorf("%s: -what there is, +what the page has:\n%s", what, diff)
	}
}

func sorted(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

func TestEveryCommandHasItsManualPage(t *testing.T) {
	for _, c := range newProgram().app("0").Commands {
		if c.Hidden {
			continue
		}
		name := "runch-" + c.Name
		text := page(t, name+".8")
		if line := "\n" + name + " - " + c.Usage + "\n"; !strings.Contains(text, line) {
			t.Errorf("%s: the page does not begin with %q", name, line[1:])
		}
		same(t, name, flagsOf(c), described(text))
	}
}

func TestManualPageOfTheWhole(t *testing.T) {
	app := newProgram().app("0")
	text := page(t, "runch.8")
	var flags []string
	for _, f := range append(app.Flags, cli.HelpFlag, cli.VersionFlag) {
		flags = append(flags, dashed(f)...)
	}
	same(t, "runch", flags, described(text))
	for _, c := range app.Commands {
		line := "\n**" + c.Name + "**\n: "
		if c.Hidden {
			line = "**" + c.Name + "**"
		}
		if !strings.Contains(text, line) {
			t.Errorf("runch: the command %s is not in its list", c.Name)
		}
	}
}

func TestManualPageOfTheConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, settings, err := config.Load(config.Options{File: file, DropIn: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, s := range settings {
		want = append(want, s.Key)
	}
	text := page(t, "runch-config.5")
	for _, match := range setting.FindAllStringSubmatch(text, -1) {
		got = append(got, strings.ReplaceAll(match[1], `\`, ""))
	}
	same(t, "runch-config", want, got)
	for _, name := range configFlags {
		if !strings.Contains(text, "Option\n**--"+name+"**") && !strings.Contains(text, "Option **--"+name+"**") {
			t.Errorf("runch-config: the option --%s is not with its setting", name)
		}
	}
}

// No page names an option or a page that does not exist.
func TestManualPagesNameNothingThatIsNot(t *testing.T) {
	app := newProgram().app("0")
	known := map[string]bool{"--help": true, "--version": true}
	for _, c := range append(app.Commands, &cli.Command{Flags: app.Flags}) {
		for _, f := range flagsOf(c) {
			known[f] = true
		}
	}
	files, err := filepath.Glob(filepath.Join(manDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages := make(map[string]bool)
	for _, f := range files {
		pages[strings.TrimSuffix(filepath.Base(f), ".md")] = true
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		text := page(t, name)
		for _, match := range longOption.FindAllStringSubmatch(text, -1) {
			if !known[match[1]] {
				t.Errorf("%s names %s", name, match[1])
			}
		}
		for _, match := range reference.FindAllStringSubmatch(text, -1) {
			if !pages[match[1]+"."+match[2]] {
				t.Errorf("%s refers to %s(%s)", name, match[1], match[2])
			}
		}
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"} {
			if !strings.Contains(text, "\n# "+section+"\n") {
				t.Errorf("%s has no section %s", name, section)
			}
		}
	}
}

func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), match[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, match[1], err)
			}
		}
	}
}
