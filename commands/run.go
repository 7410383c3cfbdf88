package commands

import (
	"runch/sandbox"

	"github.com/urfave/cli/v2"
)

func (p *program) runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "create and run a container",
		ArgsUsage: "<container-id>",
		Description: "The run command creates a container, starts it, waits for its end, deletes it, and exits with the exit code of\n" +
			"its process. Signals are passed on to the process.",
		Flags: append(createFlags(),
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when the container runs"},
			&cli.BoolFlag{Name: "keep", Usage: "do not delete the container when it has ended"},
			&cli.BoolFlag{Name: "no-subreaper", Usage: "accepted and ignored"},
		),
		Action: p.run,
	}
}

func (p *program) run(c *cli.Context) error {
	detach := c.Bool("detach")
	r, options, err := p.createOptions(c, detach)
	if err != nil {
		return commandError("run", err)
	}
	code, err := r.Run(c.Context, sandbox.RunOptions{CreateOptions: options, Detach: detach, Keep: c.Bool("keep")})
	if err != nil {
		return commandError("run", err)
	}
	return statusError(code)
}
