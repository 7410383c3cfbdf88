package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"runch/sandbox"
	"runch/state"

	"github.com/urfave/cli/v2"
)

var errFormat = errors.New("invalid format option")

// formatFlag is the flag --format of list and ps.
func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"f"}, Value: "table", Usage: "`FORMAT`: table or json"}
}

func (p *program) listCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list the containers under the given root",
		Description: "The list command shows the containers whose state is in the directory that the global flag --root names.",
		Flags: []cli.Flag{
			formatFlag(),
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show only the ids"},
		},
		Action: p.list,
	}
}

func (p *program) list(c *cli.Context) error {
	if err := exactArgs(c, 0); err != nil {
		return err
	}
	states, err := p.states(c)
	if err != nil {
		return err
	}
	w := c.App.Writer
	if c.Bool("quiet") {
		for _, s := range states {
			if _, err := fmt.Fprintln(w, s.ID); err != nil {
				return err
			}
		}
		return nil
	}
	switch c.String("format") {
	case "table":
		return listTable(w, states)
	case "json":
		return json.NewEncoder(w).Encode(states)
	}
	return errFormat
}

// states returns the states of all containers whose record can be read. A default root
// that does not exist means that there are no containers: the first create makes it. A
// root that the command line names has to exist.
func (p *program) states(c *cli.Context) ([]*sandbox.State, error) {
	r := p.runtime(c)
	ids, err := r.Store.IDs()
	if errors.Is(err, fs.ErrNotExist) && !c.IsSet("root") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var states []*sandbox.State
	for _, id := range ids {
		s, err := r.State(id)
		switch {
		case err == nil:
			states = append(states, s)
		case !errors.Is(err, state.ErrNotExist): // a container without a record is being made, or has just been deleted
			_, _ = fmt.Fprintf(c.App.ErrWriter, "load container %s: %s\n", id, shorten(err.Error()))
		}
	}
	states, err = r.AskFallbacks(c.Context, states)
	if err != nil {
		_, _ = fmt.Fprintln(c.App.ErrWriter, shorten(err.Error()))
	}
	return states, nil
}

func listTable(out io.Writer, states []*sandbox.State) error {
	w := tabwriter.NewWriter(out, 12, 1, 3, ' ', 0)
	_, _ = fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, s := range states {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.PID, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
	}
	return w.Flush()
}
