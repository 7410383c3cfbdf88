package commands

import (
	"strings"
	"testing"
)

// As in runc, flags may follow a command's arguments. This holds for subcommands too.
func TestFlagsMayComeLast(t *testing.T) {
	app := newProgram().app("0")
	for in, want := range map[string]string{
		"runch --debug kill c KILL --all":      "runch --debug kill --all -- c KILL",
		"runch network ls c --format json":     "runch network ls --format json -- c",
		"runch network remove c eth0 eth1":     "runch network remove -- c eth0 eth1",
		"runch network":                        "runch network",
		"runch network --help":                 "runch network --help",
		"runch network up c":                   "runch network up c",
		"runch exec c ls --all":                "runch exec c ls --all",
		"runch --root /r network ls -f json c": "runch --root /r network ls -f json -- c",
	} {
		if got := strings.Join(reorder(app, strings.Fields(in)), " "); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
