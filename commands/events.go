package commands

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"runch/sandbox"

	"github.com/urfave/cli/v2"
)

func (p *program) eventsCommand() *cli.Command {
	return &cli.Command{
		Name:      "events",
		Usage:     "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
		ArgsUsage: "<container-id>",
		Description: "The events command writes one line of JSON for each event: statistics of the container's cgroup in the guest\n" +
			"at every interval, and kills for lack of memory. It ends with the container.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Value: 5 * time.Second, Usage: "set the stats collection interval"},
			&cli.BoolFlag{Name: "stats", Usage: "display the container's stats then exit"},
		},
		Action: func(c *cli.Context) error {
			id, err := onlyID(c)
			if err != nil {
				return err
			}
			interval := c.Duration("interval")
			if interval <= 0 {
				return errors.New("duration interval must be greater than 0")
			}
			encode := func(e *sandbox.Event) error { return json.NewEncoder(os.Stdout).Encode(e) }
			r := p.runtime(c)
			if !c.Bool("stats") {
				return r.Events(c.Context, id, interval, encode)
			}
			e, err := r.Stats(c.Context, id)
			if err != nil {
				return err
			}
			return encode(e)
		},
	}
}
