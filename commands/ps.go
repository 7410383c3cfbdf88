package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"runch/plaintext"
	"runch/sandbox"

	"github.com/urfave/cli/v2"
)

func (p *program) psCommand() *cli.Command {
	return &cli.Command{
		Name:      "ps",
		Usage:     "display the processes running inside a container",
		ArgsUsage: "<container-id> [ps options]",
		Description: "The ps command shows a container's processes by their numbers in the guest. Of the options of ps(1), -e, -A, -f,\n" +
			"-x and -o with a list of columns are known. In JSON, which other programs read, it gives the pids on the host.",
		Flags: []cli.Flag{&cli.StringFlag{
			Name: "format", Aliases: []string{"f"}, Value: "table",
			Usage: "`FORMAT`: table, json (pids of shims on the host) or guest-json (pids in the guest)",
		}},
		Action: p.ps,
	}
}

func (p *program) ps(c *cli.Context) error {
	if err := minArgs(c, 1); err != nil {
		return err
	}
	id, err := containerID(c)
	if err != nil {
		return err
	}
	columns, err := psColumns(c.Args().Tail())
	if err != nil {
		return err
	}
	r := p.runtime(c)
	switch c.String("format") {
	case "table":
		processes, err := r.Processes(c.Context, id)
		if err != nil {
			return err
		}
		return psTable(c.App.Writer, columns, processes, time.Now())
	case "json":
		pids, err := r.HostPIDs(id)
		if err != nil {
			return err
		}
		return psJSON(c.App.Writer, pids)
	case "guest-json":
		processes, err := r.Processes(c.Context, id)
		if err != nil {
			return err
		}
		var pids []int
		for _, process := range processes {
			pids = append(pids, process.PID)
		}
		return psJSON(c.App.Writer, pids)
	default:
		return errFormat
	}
}

// psJSON writes an array, which is empty rather than null if there are no pids.
func psJSON(out io.Writer, pids []int) error {
	return json.NewEncoder(out).Encode(append([]int{}, pids...))
}

func psTable(out io.Writer, columns []column, processes []sandbox.Process, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 1, ' ', 0)
	var cells []string
	for _, c := range columns {
		cells = append(cells, c.header)
	}
	_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	for _, p := range processes {
		cells = cells[:0]
		for _, c := range columns {
			cells = append(cells, c.value(p, now))
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// share is the process's CPU time in percent of its age, at most 99 as in ps(1).
func share(p sandbox.Process, now time.Time) int {
	age := now.Sub(started(p))
	if age <= 0 {
		return 0
	}
	return int(min(99, 100*float64(p.CPUNS)/float64(age)))
}

func started(p sandbox.Process) time.Time {
	return time.Unix(0, int64(min(p.StartNS, 1<<62)))
}

// startTime formats the start as in ps(1): a time if today, a date if this year, else a year.
func startTime(p sandbox.Process, now time.Time) string {
	start := started(p).In(now.Location())
	switch {
	case start.YearDay() == now.YearDay() && start.Year() == now.Year():
		return start.Format("15:04")
	case start.Year() == now.Year():
		return start.Format("Jan02")
	}
	return start.Format("2006")
}

func cpuTime(p sandbox.Process) string {
	s := p.CPUNS / uint64(time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

func bsdTime(p sandbox.Process) string {
	s := p.CPUNS / uint64(time.Second)
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// userName returns the host's name for the uid, as the host's ps(1) shows it under runc.
func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return strconv.Itoa(uid)
	}
	return u.Username
}

func shortCommand(command string) string {
	word, _, _ := strings.Cut(command, " ")
	return plaintext.Line(strings.TrimSuffix(word[strings.LastIndexByte(word, '/')+1:], ":"))
}

func orDefault(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
