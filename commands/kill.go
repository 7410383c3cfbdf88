package commands

import (
	"runch/oci"

	"github.com/urfave/cli/v2"
)

func (p *program) killCommand() *cli.Command {
	return &cli.Command{
		Name:      "kill",
		Usage:     "send a signal (default: SIGTERM) to the container's init process",
		ArgsUsage: "<container-id> [signal]",
		Description: "The kill command delivers a signal, by number or by name with or without SIG, and does not wait for its effect.\n" +
			"A virtual machine that does not take SIGKILL in time is ended itself.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "send the signal to every process of the container; one that has stopped is no error then"},
		},
		Action: func(c *cli.Context) error {
			if err := minArgs(c, 1); err != nil {
				return err
			}
			if err := maxArgs(c, 2); err != nil {
				return err
			}
			id, err := containerID(c)
			if err != nil {
				return err
			}
			// As in runc, an unknown container is reported before an unknown signal.
			r := p.runtime(c)
			if _, err := r.State(id); err != nil {
				return err
			}
			text := c.Args().Get(1)
			if text == "" {
				text = "SIGTERM"
			}
			sig, err := oci.ParseSignal(text)
			if err != nil {
				return err
			}
			return r.Kill(c.Context, id, sig, c.Bool("all"))
		},
	}
}
