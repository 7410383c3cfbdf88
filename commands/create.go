package commands

import (
	"errors"
	"fmt"
	"os"

	"runch/oci"
	"runch/sandbox"
	"runch/signals"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

func (p *program) createCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "create a container",
		ArgsUsage: "<container-id>",
		Description: "The create command boots a virtual machine for a bundle and makes the container in it, up to the point where\n" +
			"its process waits for start. The bundle is a directory with a config.json and a root file system.",
		Flags:  createFlags(),
		Action: p.create,
	}
}

// createFlags are the flags that create and run have in common.
func createFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "`DIR` of the bundle (default: the current directory)"},
		&cli.StringFlag{Name: "console-socket", Usage: "`SOCKET` that gets the master of the container's terminal"},
		&cli.StringFlag{Name: "pid-file", Usage: "`FILE` to write the process id to"},
		&cli.BoolFlag{Name: "no-pivot", Usage: "do not use pivot_root in the guest"},
		&cli.BoolFlag{Name: "no-new-keyring", Usage: "do not make a new session keyring for the container"},
		&cli.IntFlag{Name: "preserve-fds", Usage: "pass `N` more file descriptors to the container: only 0 is possible, as its kernel is another"},
	}
}

func (p *program) create(c *cli.Context) error {
	r, options, err := p.createOptions(c, true)
	if err != nil {
		return commandError("create", err)
	}
	// SIGTERM and SIGINT cancel a create, which then removes what it has made.
	ctx, stop := signals.Interruptible(c.Context)
	defer stop()
	if err := r.Create(ctx, options); err != nil {
		return commandError("create", err)
	}
	return nil
}

// argumentError is an error of the command line. Its text already names the command.
type argumentError struct{ error }

func (e argumentError) Unwrap() error { return e.error }

// commandError adds the command's name to an error, as runc does.
func commandError(command string, err error) error {
	var argument argumentError
	if errors.As(err, &argument) {
		return argument.error
	}
	return fmt.Errorf("%s %s failed: %w", name, command, err)
}

// createOptions reads the command line and the bundle. If the container is passed on to
// the fallback runtime, it does not return: the fallback runtime replaces this program.
func (p *program) createOptions(c *cli.Context, detach bool) (*sandbox.Runtime, sandbox.CreateOptions, error) {
	var o sandbox.CreateOptions
	if err := exactArgs(c, 1); err != nil {
		return nil, o, argumentError{err}
	}
	id, err := containerID(c)
	if err != nil {
		return nil, o, err
	}
	bundle, err := oci.Read(c.String("bundle"))
	if err != nil {
		return nil, o, err
	}
	r, _, err := p.configured(c)
	if err != nil {
		return nil, o, err
	}
	if err := p.passOn(c, r, id, bundle); err != nil {
		return nil, o, err
	}
	if err := refuseFDs(c); err != nil {
		return nil, o, err
	}
	if err := bundle.Check(); err != nil {
		return nil, o, r.Explain(id, bundle.Spec, err)
	}
	if err := checkTerminal(bundle.Spec.Process, detach, c.String("console-socket")); err != nil {
		return nil, o, err
	}
	return r, sandbox.CreateOptions{
		ID: id, Bundle: bundle, PIDFile: c.String("pid-file"), ConsoleSocket: c.String("console-socket"),
		NoPivot: c.Bool("no-pivot"), NoNewKeyring: c.Bool("no-new-keyring"),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}, nil
}

// refuseFDs refuses to pass open files on: they belong to the host's kernel, and the
// container runs on the guest's.
func refuseFDs(c *cli.Context) error {
	switch n := c.Int("preserve-fds"); {
	case n < 0:
		return fmt.Errorf("invalid --preserve-fds %d", n)
	case n > 0:
		return fmt.Errorf("--preserve-fds %d: file descriptors of the host cannot be passed into a virtual machine", n)
	}
	if n := listenFDs(); n > 0 {
		return fmt.Errorf("LISTEN_FDS=%d: file descriptors of the host cannot be passed into a virtual machine", n)
	}
	return nil
}

// checkTerminal refuses combinations that leave a terminal without a reader, with
// runc's messages.
func checkTerminal(process *specs.Process, detach bool, socket string) error {
	terminal := process != nil && process.Terminal
	switch {
	case detach && terminal && socket == "":
		return fmt.Errorf("cannot allocate tty if %s will detach without setting console socket", name)
	case (!detach || !terminal) && socket != "":
		return fmt.Errorf("cannot use console socket if %s will not detach or allocate tty", name)
	}
	return nil
}
