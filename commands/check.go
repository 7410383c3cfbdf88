package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"runch/signals"

	"github.com/urfave/cli/v2"
)

// finding is the result of one check.
type finding struct {
	Name string `json:"name"`
	// Needed says that no container runs without it. Other things are optional, or make
	// containers faster.
	Needed bool   `json:"needed"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	// Fix is a command that provides what is missing, for root.
	Fix string `json:"fix,omitempty"`
}

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "show what this host lacks, and the command that fixes it",
		Description: "The check command looks for everything that containers need here, and for runch in the configuration of the\n" +
			"callers that are installed. It fails when something is missing without which no container can run.",
		Flags: []cli.Flag{
			textOrJSON(),
			&cli.BoolFlag{Name: "run", Usage: "run a container as well, and say how long it took"},
		},
		Action: p.check,
	}
}

// textOrJSON is the flag of the commands that print text for people.
func textOrJSON() cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"f"}, Value: "text", Usage: "`FORMAT`: text or json"}
}

func (p *program) check(c *cli.Context) error {
	if err := exactArgs(c, 0); err != nil {
		return err
	}
	format := c.String("format")
	if format != "text" && format != "json" {
		return errFormat
	}
	r, _, err := p.configured(c)
	if err != nil {
		return err
	}
	list := append(lookAtHost(r).findings(), callerFindings(c.Context)...)
	if c.Bool("run") {
		// SIGINT and SIGTERM cancel the run, and the container is still removed.
		ctx, stop := signals.Interruptible(c.Context)
		defer stop()
		list = append(list, runFinding(ctx, r))
	}
	if format == "json" {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		err = e.Encode(list)
	} else {
		err = printFindings(c.App.Writer, list)
	}
	if err != nil {
		return err
	}
	return verdict(list)
}

// verdict returns an error if containers cannot run.
func verdict(list []finding) error {
	var missing []string
	for _, f := range list {
		if f.Needed && !f.OK && f.Name != containerFinding {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this host lacks: %s", strings.Join(missing, ", "))
	}
	for _, f := range list {
		if f.Name == containerFinding && !f.OK {
			return fmt.Errorf("a container does not run: %s", f.Detail)
		}
	}
	return nil
}

func printFindings(out io.Writer, list []finding) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, f := range list {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, f.verdict(), f.Detail)
		if f.Fix != "" && !f.OK {
			_, _ = fmt.Fprintf(w, "\t\tfix with: %s\n", f.Fix)
		}
	}
	return w.Flush()
}

func (f finding) verdict() string {
	switch {
	case f.OK:
		return "ok"
	case f.Name == containerFinding:
		return "FAILED"
	case f.Needed:
		return "MISSING"
	default:
		return "absent"
	}
}
