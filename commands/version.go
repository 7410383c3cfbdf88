package commands

import (
	"fmt"
	"runtime"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

// printVersion prints lines such as runc's, which callers show or parse.
func printVersion(c *cli.Context) {
	version, commit, _ := strings.Cut(c.App.Version, "+")
	w := c.App.Writer
	_, _ = fmt.Fprintln(w, name, "version", version)
	if commit != "" {
		_, _ = fmt.Fprintln(w, "commit:", commit)
	}
	_, _ = fmt.Fprintln(w, "spec:", specs.Version)
	_, _ = fmt.Fprintln(w, "go:", runtime.Version())
}
