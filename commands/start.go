package commands

import "github.com/urfave/cli/v2"

func (p *program) startCommand() *cli.Command {
	return &cli.Command{
		Name:        "start",
		Usage:       "execute the user's process in a created container",
		ArgsUsage:   "<container-id>",
		Description: "The start command lets the process of a created container run, and returns once it does.",
		Action: func(c *cli.Context) error {
			id, err := onlyID(c)
			if err != nil {
				return err
			}
			return p.runtime(c).Start(c.Context, id)
		},
	}
}
