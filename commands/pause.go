package commands

import "github.com/urfave/cli/v2"

func (p *program) pauseCommand() *cli.Command {
	return &cli.Command{
		Name:        "pause",
		Usage:       "suspend all processes of a container",
		ArgsUsage:   "<container-id>",
		Description: "The pause command freezes the processes of a container until resume.",
		Action: func(c *cli.Context) error {
			id, err := onlyID(c)
			if err != nil {
				return err
			}
			return p.runtime(c).Pause(c.Context, id)
		},
	}
}

func (p *program) resumeCommand() *cli.Command {
	return &cli.Command{
		Name:        "resume",
		Usage:       "resume all processes that have been paused",
		ArgsUsage:   "<container-id>",
		Description: "The resume command lets the processes of a paused container go on.",
		Action: func(c *cli.Context) error {
			id, err := onlyID(c)
			if err != nil {
				return err
			}
			return p.runtime(c).Resume(c.Context, id)
		},
	}
}
