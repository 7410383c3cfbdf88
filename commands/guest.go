package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"runch/guest"
	"runch/guest/lean"
	"runch/sandbox"
)

// guestCommand builds the image that VMs boot, or shows one.
func guestCommand() *cli.Command {
	return &cli.Command{
		Name:  "guest",
		Usage: "build or show the guest image: kernel and initramfs",
		Description: "A guest image is a directory with a distribution's own kernel, an initramfs that holds the agent and the\n" +
			"modules it needs, and a manifest.json that says what they are.",
		Subcommands: []*cli.Command{guestBuildCommand(), guestShowCommand()},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return fmt.Errorf("unknown command %q of guest: use build or show", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

func guestBuildCommand() *cli.Command {
	return &cli.Command{
		Name:  "build",
		Usage: "make a guest image out of a distribution kernel and the agent",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kernel", Value: guest.RunningKernel, Usage: "`SOURCE`: a .deb file, a directory with a kernel and its modules, or \"running\""},
			&cli.StringFlag{Name: "kernel-source", Usage: "build a lean kernel from `SOURCE`: Debian's linux-source as a .deb or .tar.xz file, or a directory"},
			&cli.StringFlag{Name: "kernel-cache", Usage: "`DIR` that keeps kernels that were built (default: runch/kernels in the user's cache)"},
			&cli.StringFlag{Name: "release", Usage: "`RELEASE` of the kernel to take where the source holds several"},
			&cli.StringFlag{Name: "agent", Usage: "`PATH` of the agent's static binary (default: runch-agent beside runch or in its libexec)"},
			&cli.StringFlag{Name: "agent-version", Usage: "`VERSION` to record for the agent (default: what its build information says)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`DIR` to make", Required: true},
			&cli.StringSliceFlag{Name: "module", Usage: "pack the kernel module `NAME` too; may be repeated"},
			&cli.BoolFlag{Name: "vmlinux", Usage: "add the kernel unpacked, which boots faster where there is no KVM"},
			&cli.StringFlag{Name: "compression", Value: string(guest.DefaultCompression), Usage: "`KIND` of the initramfs: none, zstd or gzip"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say nothing while working"},
		},
		Action: guestBuild,
	}
}

func guestShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "verify a guest image and say what it holds",
		ArgsUsage: "[DIR]",
		Flags:     []cli.Flag{textOrJSON()},
		Action:    guestShow,
	}
}

func guestBuild(c *cli.Context) error {
	if c.Args().Present() {
		return fmt.Errorf("guest build takes no arguments, got %q", c.Args().First())
	}
	epoch, err := sourceDateEpoch(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	agent := c.String("agent")
	if agent == "" {
		if agent, err = besideBinary("runch-agent", "../libexec/runch/runch-agent"); err != nil {
			return fmt.Errorf("no agent found, name one with --agent: %w", err)
		}
	}
	progress := c.App.ErrWriter
	if c.Bool("quiet") {
		progress = nil
	}
	kernel, err := guestKernel(c, epoch, progress)
	if err != nil {
		return err
	}
	_, err = guest.Build(c.Context, guest.Options{
		Kernel:       kernel,
		Release:      c.String("release"),
		Agent:        agent,
		AgentVersion: c.String("agent-version"),
		Output:       c.String("output"),
		Modules:      c.StringSlice("module"),
		Compression:  guest.Compression(c.String("compression")),
		Vmlinux:      c.Bool("vmlinux"),
		Epoch:        epoch,
		Progress:     progress,
	})
	return err
}

// guestKernel returns the source of the guest's kernel. With --kernel-source it builds the
// kernel first, unless the cache has it.
func guestKernel(c *cli.Context, epoch time.Time, progress io.Writer) (string, error) {
	source := c.String("kernel-source")
	if source == "" {
		return c.String("kernel"), nil
	}
	if c.IsSet("kernel") || c.IsSet("release") {
		return "", errors.New("guest build takes a kernel or the source of one: give --kernel (and --release), or --kernel-source")
	}
	cache := c.String("kernel-cache")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no place to build a kernel in, name one with --kernel-cache: %w", err)
		}
		cache = filepath.Join(user, "runch", "kernels")
	}
	return lean.Build(c.Context, lean.Options{Source: source, Cache: cache, Epoch: epoch, Progress: progress})
}

func guestShow(c *cli.Context) error {
	if c.NArg() > 1 {
		return fmt.Errorf("guest show takes one directory, got %d", c.NArg())
	}
	dir := c.Args().First()
	if dir == "" {
		var err error
		if dir, err = sandbox.ImageDir(); err != nil {
			return fmt.Errorf("name the directory of an image: %w", err)
		}
	}
	m, err := guest.Inspect(dir)
	if err != nil {
		return err
	}
	switch format := c.String("format"); format {
	case "json":
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		return e.Encode(m)
	case "text":
		return showManifest(c.App.Writer, dir, m)
	default:
		return fmt.Errorf("invalid format option %q: use text or json", format)
	}
}

func showManifest(out io.Writer, dir string, m *guest.Manifest) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(key, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", key, fmt.Sprintf(format, args...))
	}
	line("image", "%s", dir)
	line("kernel", "%s %s, %d bytes, sha256 %s", m.KernelRelease, m.Arch, m.Kernel.Size, m.Kernel.SHA256)
	if m.Vmlinux != nil {
		line("vmlinux", "%d bytes, sha256 %s", m.Vmlinux.Size, m.Vmlinux.SHA256)
	}
	line("initramfs", "%s, %d bytes, unpacked %d, sha256 %s", m.Initramfs.Compression, m.Initramfs.Size, m.Initramfs.Unpacked, m.Initramfs.SHA256)
	line("agent", "%s, %d bytes, sha256 %s", m.Agent.Version, m.Agent.Size, m.Agent.SHA256)
	for _, group := range []struct {
		when string
		mods []guest.Module
	}{{"module at boot", m.Modules}, {"module for vsock", m.Vsock}, {"module for later", m.Lazy}} {
		for _, mod := range group.mods {
			line(group.when, "%s, %d bytes", mod.Name, mod.Size)
		}
	}
	for _, name := range m.Builtin {
		line("built in", "%s", name)
	}
	return w.Flush()
}

// besideBinary returns the first of the paths, relative to the directory of
// the running binary, that exists.
func besideBinary(paths ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, p := range paths {
		full := filepath.Join(filepath.Dir(exe), p)
		if _, err := os.Stat(full); err == nil {
			return full, nil
		}
	}
	return "", fmt.Errorf("neither %s exists in %s", strings.Join(paths, " nor "), filepath.Dir(exe))
}

// sourceDateEpoch reads the variable of reproducible-builds.org: seconds since 1970.
func sourceDateEpoch(value string) (time.Time, error) {
	if value == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	sec, err := strconv.ParseInt(value, 10, 64)
	if err != nil || sec < 0 || sec > 1<<32-1 {
		return time.Time{}, fmt.Errorf("invalid SOURCE_DATE_EPOCH %q: not a time in seconds", value)
	}
	return time.Unix(sec, 0).UTC(), nil
}
