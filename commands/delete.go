package commands

import (
	"errors"
	"os/exec"

	"github.com/urfave/cli/v2"
)

func (p *program) deleteCommand() *cli.Command {
	return &cli.Command{
		Name:        "delete",
		Usage:       "delete what a container has left, and its virtual machine",
		ArgsUsage:   "<container-id>",
		Description: "The delete command removes a container that has stopped, or was created and never started.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "kill the container first (SIGKILL); an unknown one is no error then"},
		},
		Action: func(c *cli.Context) error {
			id, err := onlyID(c)
			if err != nil {
				return err
			}
			err = p.runtime(c).Delete(c.Context, id, c.Bool("force"))
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return processError(exit.ExitCode()) // the fallback runtime has printed the reason
			}
			return err
		},
	}
}
