// Package commands is the command line: one file per command. A command turns
// flags into one call of package sandbox and its answer into text or JSON. The
// flags, the messages and the exit codes are runc's.
package commands

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
)

// name is the program's name, even where its file has another one.
const name = "runch"

// exitError is an error with an exit code of its own. Other errors exit with code 1.
type exitError struct {
	err  error
	code int
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

// processError is the exit code of a foreground process. The command exits with the
// same code and prints no message.
type processError int

func (e processError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// statusError returns a process's exit code as an error, nil for 0.
func statusError(code int) error {
	if code == 0 {
		return nil
	}
	return processError(code)
}

// Main runs the command line args, the first of which is the program's name,
// and returns the exit code. The version is "number" or "number+commit".
func Main(ctx context.Context, args []string, version string) int {
	p := newProgram()
	p.args = args
	app := p.app(version)
	if completing(args) {
		question, ok := completable(args)
		if !ok {
			return 0
		}
		args = question
	} else {
		args = reorder(app, args)
	}
	err := app.RunContext(ctx, args)
	var status processError
	if errors.As(err, &status) {
		return int(status)
	}
	if err != nil {
		p.fail(err)
		var coded *exitError
		if errors.As(err, &coded) {
			return coded.code
		}
		return 1
	}
	return 0
}

// program is one run of the program.
type program struct {
	log *logHandler
	// args is the command line as the caller wrote it.
	args []string
}

func newProgram() *program {
	return &program{log: newLogHandler(os.Stderr)}
}

// fail writes the error that ends the program to the log, and to stderr if the log
// is a file.
func (p *program) fail(err error) {
	text := shorten(err.Error())
	p.log.error(text)
	if p.log.toFile {
		_, _ = fmt.Fprintln(os.Stderr, text)
	}
}

func (p *program) app(version string) *cli.App {
	cli.VersionPrinter = printVersion
	app := &cli.App{
		Name:        name,
		HelpName:    name,
		Usage:       "run OCI containers, each in a virtual machine",
		Description: description,
		Version:     version,
		Writer:      os.Stdout,
		ErrWriter:   os.Stderr,
		Flags:       p.globalFlags(),
		Commands:    p.commands(),
		Before:      p.before,
		Action:      unknownCommand,
		// A value may hold commas, as those of runc's flags may.
		DisableSliceFlagSeparator: true,
		EnableBashCompletion:      os.Getenv(completeVariable) != "",
		OnUsageError:              usageError,
		// Without this the library calls os.Exit itself, with the code of any error that
		// has a method ExitCode, such as *exec.ExitError.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	for _, c := range app.Commands {
		applyDefaults(c)
	}
	return app
}

// applyDefaults sets what all commands have in common, for c and its subcommands.
func applyDefaults(c *cli.Command) {
	c.OnUsageError = usageError
	// Otherwise no command could be used for a container called "help".
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		applyDefaults(sub)
	}
}

const description = `runch has runc's command line and runs the containers of OCI bundles, each in a
virtual machine with a kernel of its own. A bundle is a directory with a
config.json and a root file system. To run one:

    # runch run [ -b bundle ] <container-id>

where <container-id> is your name for the container.`

func (p *program) commands() []*cli.Command {
	id := func(c *cli.Command) *cli.Command { return p.completesID(p.follows(c)) }
	commands := []*cli.Command{
		p.createCommand(), id(p.startCommand()), id(p.stateCommand()), id(p.killCommand()), p.completesID(p.deleteCommand()),
		id(p.execCommand()), p.runCommand(), p.listCommand(), id(p.psCommand()), id(p.pauseCommand()), id(p.resumeCommand()),
		id(p.updateCommand()), id(p.eventsCommand()), p.networkCommand(),
		specCommand(), featuresCommand(), guestCommand(), p.installCommand(), p.checkCommand(), p.envCommand(), completionCommand(),
	}
	return append(commands, unsupportedCommands()...)
}

// usageError returns the error for Main to print. The library would print help as well.
func usageError(_ *cli.Context, err error, _ bool) error { return err }

func unknownCommand(c *cli.Context) error {
	if c.Args().Present() {
		// The text begins like runc's, which callers search for.
		return fmt.Errorf("No help topic for '%s': it is no command, see `%s help`", c.Args().First(), name) //nolint:staticcheck // runc's text has a capital letter
	}
	return cli.ShowAppHelp(c)
}
