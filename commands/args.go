package commands

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"runch/oci"

	"github.com/urfave/cli/v2"
)

var errEmptyID = errors.New("container id cannot be empty")

// exactArgs, minArgs and maxArgs check the number of arguments, with runc's messages.
func exactArgs(c *cli.Context, n int) error {
	if c.NArg() != n {
		return fmt.Errorf("%s: %q requires exactly %d argument(s)", name, c.Command.Name, n)
	}
	return nil
}

func minArgs(c *cli.Context, n int) error {
	if c.NArg() < n {
		return fmt.Errorf("%s: %q requires a minimum of %d argument(s)", name, c.Command.Name, n)
	}
	return nil
}

func maxArgs(c *cli.Context, n int) error {
	if c.NArg() > n {
		return fmt.Errorf("%s: %q requires a maximum of %d argument(s)", name, c.Command.Name, n)
	}
	return nil
}

// onlyID returns the container's id for a command that has no other argument.
func onlyID(c *cli.Context) (string, error) {
	if err := exactArgs(c, 1); err != nil {
		return "", err
	}
	return containerID(c)
}

// containerID returns the command's first argument, if it is a valid id.
func containerID(c *cli.Context) (string, error) {
	id := c.Args().First()
	if id == "" {
		return "", errEmptyID
	}
	return id, oci.ValidateID(id)
}

// literal are the commands whose arguments after the first belong to another program.
// The commands' own flags have to come before the first argument.
var literal = []string{"exec", "ps"}

// reorder moves a command's flags before its arguments, as runc allows either
// order (`kill ID KILL --all`) and the flag package only one.
func reorder(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	at, command := 0, &cli.Command{Flags: app.Flags, Subcommands: app.Commands}
	for len(command.Subcommands) > 0 {
		at += 1 + flagsLength(command.Flags, args[at+1:])
		if at >= len(args) {
			return args
		}
		if command = findCommand(command.Subcommands, args[at]); command == nil {
			return args
		}
	}
	if command.SkipFlagParsing || slices.Contains(literal, command.Name) {
		return args
	}
	rest := args[at+1:]
	var flags, others []string
	for len(rest) > 0 {
		n := flagsLength(command.Flags, rest)
		flags = append(flags, rest[:n]...)
		rest = rest[n:]
		if len(rest) > 0 && rest[0] == "--" {
			others = append(others, rest[1:]...)
			break
		}
		if len(rest) > 0 {
			others = append(others, rest[0])
			rest = rest[1:]
		}
	}
	ordered := append(slices.Clone(args[:at+1]), flags...)
	if len(others) > 0 {
		ordered = append(ordered, "--")
	}
	return append(ordered, others...)
}

// flagsLength returns how many args at the beginning are flags or their values.
func flagsLength(flags []cli.Flag, args []string) int {
	n := 0
	for n < len(args) {
		length := flagLength(flags, args[n:])
		if length == 0 {
			return n
		}
		n += length
	}
	return n
}

// flagLength returns how many args the flag at their beginning takes with its value: 1 or
// 2, or 0 if args[0] is no flag.
func flagLength(flags []cli.Flag, args []string) int {
	name, ok := flagName(args[0])
	if !ok {
		return 0
	}
	f := findFlag(flags, name)
	if f != nil && takesValue(f) && !strings.Contains(args[0], "=") && len(args) > 1 {
		return 2
	}
	return 1
}

// flagName returns the name of the flag in an argument. ok is false if the argument is
// none; "-" and "--" are none.
func flagName(arg string) (string, bool) {
	name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	return name, strings.HasPrefix(arg, "-") && name != ""
}

// takesValue tells whether the argument after a flag is its value.
func takesValue(f cli.Flag) bool {
	_, isBool := f.(*cli.BoolFlag)
	return !isBool
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
