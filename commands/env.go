package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"runch/config"
	"runch/storage"

	"github.com/urfave/cli/v2"
)

// versionTimeout bounds how long a program may take to print its version.
const versionTimeout = 5 * time.Second

// environment is what env prints.
type environment struct {
	Version    string           `json:"version"`
	Go         string           `json:"go"`
	Root       string           `json:"root"`
	Hypervisor part             `json:"hypervisor"`
	Accel      part             `json:"accel"`
	Virtiofsd  part             `json:"virtiofsd"`
	Kernel     part             `json:"kernel"`
	Initramfs  part             `json:"initramfs"`
	Settings   []config.Setting `json:"settings"`
}

type part struct {
	Path    string `json:"path,omitempty"`
	Kind    string `json:"kind,omitempty"`
	Version string `json:"version,omitempty"`
	// Why is the reason for the choice, Error why the part cannot be used.
	Why   string `json:"why,omitempty"`
	Error string `json:"error,omitempty"`
}

func (p *program) envCommand() *cli.Command {
	return &cli.Command{
		Name:  "env",
		Usage: "show what would be used: programs, guest image, versions, settings",
		Description: "The env command shows what create would use here, and each setting with its source: a default, a file, an\n" +
			"environment variable or a flag.",
		Flags:  []cli.Flag{textOrJSON()},
		Action: p.env,
	}
}

func (p *program) env(c *cli.Context) error {
	if err := exactArgs(c, 0); err != nil {
		return err
	}
	format := c.String("format")
	if format != "text" && format != "json" {
		return errFormat
	}
	r, settings, err := p.configured(c)
	if err != nil {
		return err
	}
	e := lookAtHost(r).environment(c.Context)
	e.Version, e.Go, e.Root, e.Settings = c.App.Version, runtime.Version(), r.Store.Root(), settings
	if format == "json" {
		encoder := json.NewEncoder(c.App.Writer)
		encoder.SetIndent("", "  ")
		return encoder.Encode(e)
	}
	return e.print(c.App.Writer)
}

func (h *host) environment(ctx context.Context) *environment {
	e := &environment{}
	if h.vmmErr != nil {
		e.Hypervisor.Error = shorten(h.vmmErr.Error())
	} else {
		e.Hypervisor = part{Path: h.vmm.Path, Kind: h.vmm.Driver, Why: h.vmm.Why}
		e.Accel.Kind = string(h.vmm.Accel)
		ctx, cancel := context.WithTimeout(ctx, versionTimeout)
		defer cancel()
		var err error
		if e.Hypervisor.Version, err = h.vmm.Version(ctx); err != nil {
			e.Hypervisor.Error = shorten(err.Error())
		}
	}
	if h.virtiofsdErr != nil {
		e.Virtiofsd.Error = shorten(h.virtiofsdErr.Error())
	} else {
		e.Virtiofsd = virtiofsdPart(ctx, h.virtiofsd)
	}
	switch {
	case h.image == nil:
		e.Kernel.Error = shorten(h.imageErr.Error())
		return e
	case h.imageErr != nil:
		e.Kernel.Error = shorten(h.imageErr.Error())
	}
	e.Kernel.Path, e.Initramfs.Path = h.image.Kernel, h.image.Initramfs
	if h.manifest != nil {
		e.Kernel.Version, e.Initramfs.Version = h.manifest.KernelRelease, h.manifest.Agent.Version
	}
	return e
}

// virtiofsdPart runs virtiofsd to get its version. The implementation in C prints it to
// stderr, together with the versions of its components.
func virtiofsdPart(ctx context.Context, v *storage.Virtiofsd) part {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	p := part{Path: v.Path, Kind: string(v.Flavour)}
	cmd := exec.CommandContext(ctx, v.Path, "--version")
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.Error = shorten(fmt.Sprintf("ask %s for its version: %s", v.Path, err))
		return p
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "virtiofsd") {
			p.Version = strings.TrimSpace(line)
			break
		}
	}
	return p
}

func (e *environment) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "version\t%s\n", e.Version)
	_, _ = fmt.Fprintf(w, "go\t%s\n", e.Go)
	_, _ = fmt.Fprintf(w, "root\t%s\n", e.Root)
	for _, row := range []struct {
		name string
		part part
	}{
		{"hypervisor", e.Hypervisor},
		{"accel", e.Accel},
		{"virtiofsd", e.Virtiofsd},
		{"kernel", e.Kernel},
		{"initramfs", e.Initramfs},
	} {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", row.name, row.part)
	}
	_, _ = fmt.Fprintf(w, "\nsetting\tvalue\tsource\n")
	for _, s := range e.Settings {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, orDefault(s.Value, "-"), s.Source)
	}
	return w.Flush()
}

// String describes the part in one line, for people.
func (p part) String() string {
	fields := []string{p.Path, p.Kind, p.Version, p.Why, p.Error}
	fields = slices.DeleteFunc(fields, func(s string) bool { return s == "" })
	return orDefault(strings.Join(fields, ", "), "none")
}
