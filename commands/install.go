package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"runch/callers"
	"runch/signals"

	"github.com/urfave/cli/v2"
)

func (p *program) installCommand() *cli.Command {
	c := &cli.Command{
		Name:  "install",
		Usage: "tell podman, containerd, CRI-O or docker of runch",
		Description: "The install command writes the configuration by which a caller finds runch, lets the caller's own program read\n" +
			"it first where that can, and says what has to be restarted. The path is that of this program.",
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return fmt.Errorf("unknown caller %q: use podman, containerd, crio, docker or kubernetes", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
	for _, caller := range callers.All() {
		c.Subcommands = append(c.Subcommands, installCaller(caller))
	}
	c.Subcommands = append(c.Subcommands, &cli.Command{
		Name:        "kubernetes",
		Usage:       "print a RuntimeClass",
		Description: "The manifest is for kubectl apply: it needs a handler on the nodes, of containerd or CRI-O. Nothing is written.",
		Action:      p.printRuntimeClass,
	})
	return c
}

func installCaller(caller *callers.Caller) *cli.Command {
	return &cli.Command{
		Name:  caller.Name,
		Usage: "write or remove the configuration of " + caller.Name,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "default", Usage: "make runch the default runtime as well; =false takes that back"},
			&cli.BoolFlag{Name: "remove", Usage: "take away what was written"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show the change and write nothing"},
			&cli.StringFlag{Name: "sysroot", Usage: "`DIR` to take for /, such as a package's; the caller's program is not started"},
		},
		Action: installation{caller}.run,
	}
}

// installation is the command for one caller.
type installation struct{ caller *callers.Caller }

func (i installation) run(c *cli.Context) error {
	if err := exactArgs(c, 0); err != nil {
		return err
	}
	// SIGINT and SIGTERM cancel an install, so that its temporary files are removed.
	ctx, stop := signals.Interruptible(c.Context)
	defer stop()
	if err := i.install(ctx, c); err != nil {
		return commandError("install "+i.caller.Name, err)
	}
	return nil
}

func (i installation) install(ctx context.Context, c *cli.Context) error {
	host, err := installHost(c, i.caller)
	if err != nil {
		return err
	}
	plan, err := installPlan(ctx, c, i.caller, host)
	if err != nil {
		return err
	}
	out := c.App.Writer
	if !plan.Changes() {
		_, err := fmt.Fprintln(out, nothingToDo(filepath.Join(host.Root, plan.File), c.Bool("remove")))
		return err
	}
	if c.Bool("dry-run") {
		_, err := fmt.Fprint(out, plan.Diff())
		return errors.Join(err, printNotes(out, plan.Notes))
	}
	unchecked, err := plan.Validate(ctx)
	if err != nil {
		return err
	}
	if err := plan.Apply(); err != nil {
		return err
	}
	did := "wrote"
	if plan.Removes() {
		did = "removed"
	}
	if _, err := fmt.Fprintln(out, did, filepath.Join(host.Root, plan.File)); err != nil {
		return err
	}
	if unchecked != "" {
		plan.Notes = append(plan.Notes, unchecked)
	}
	// The next steps concern this machine only, not a --sysroot.
	if host.Root == "" {
		plan.Notes = append(plan.Notes, plan.Next())
	}
	if host.Root == "" && !c.Bool("remove") {
		plan.Notes = append(plan.Notes, i.caller.Use)
	}
	return printNotes(out, plan.Notes)
}

func nothingToDo(file string, remove bool) string {
	if remove {
		return "nothing to do: " + file + " has nothing of " + name + " install"
	}
	return "nothing to do: " + file + " is as it should be"
}

func printNotes(out io.Writer, notes []string) error {
	for _, note := range notes {
		if _, err := fmt.Fprintln(out, note); err != nil {
			return err
		}
	}
	return nil
}

// installPlan reads the present configuration and plans its change.
func installPlan(ctx context.Context, c *cli.Context, caller *callers.Caller, host callers.Host) (*callers.Plan, error) {
	program, err := programOn(host)
	if err != nil {
		return nil, err
	}
	if c.Bool("remove") {
		if c.IsSet("default") {
			return nil, errors.New("--remove takes back --default as well: leave that out")
		}
		return caller.Remove(ctx, host, program)
	}
	want := callers.Want{Program: program}
	if c.IsSet("default") {
		isDefault := c.Bool("default")
		want.Default = &isDefault
	}
	return caller.Install(ctx, host, want)
}

// installHost returns the host whose configuration is changed: the directory of --sysroot,
// this machine or, for podman, an ordinary user's configuration.
func installHost(c *cli.Context, caller *callers.Caller) (callers.Host, error) {
	if c.IsSet("sysroot") {
		root, err := filepath.Abs(c.String("sysroot"))
		if err != nil {
			return callers.Host{}, err
		}
		if info, err := os.Stat(root); err != nil {
			return callers.Host{}, err
		} else if !info.IsDir() || c.String("sysroot") == "" {
			return callers.Host{}, fmt.Errorf("--sysroot %q is not a directory", c.String("sysroot"))
		}
		return callers.Host{Root: root}, nil
	}
	host := thisHost()
	if os.Geteuid() != 0 && caller.Name != "podman" && !c.Bool("dry-run") {
		return callers.Host{}, errors.New("its configuration is below /etc: run this as root")
	}
	if os.Geteuid() != 0 && caller.Name == "podman" && host.ConfigHome == "" {
		return callers.Host{}, errors.New("the directory of your configuration is not known: set HOME")
	}
	return host, nil
}

// thisHost is this machine as this user sees it.
func thisHost() callers.Host {
	if os.Geteuid() == 0 {
		return callers.Host{}
	}
	home, err := os.UserConfigDir()
	if err != nil {
		return callers.Host{}
	}
	return callers.Host{ConfigHome: home}
}

// programOn returns this program's path, relative to the host's root if it is below that.
func programOn(host callers.Host) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if below, ok := strings.CutPrefix(exe, host.Root+"/"); ok && host.Root != "" {
		return "/" + below, nil
	}
	return exe, nil
}

func (p *program) printRuntimeClass(c *cli.Context) error {
	if err := exactArgs(c, 0); err != nil {
		return err
	}
	r, _, err := p.configured(c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(c.App.Writer, callers.RuntimeClass(r.Config.OverheadMiB+r.Config.VMMOverheadMiB))
	return err
}
