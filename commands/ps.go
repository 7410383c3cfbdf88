package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"os/user"
	"slices"
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
			"-x and -o with a list of columns are known.",
		Flags:  []cli.Flag{formatFlag()},
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
	format := c.String("format")
	if format != "table" && format != "json" {
		return errFormat
	}
	columns, err := psColumns(c.Args().Tail())
	if err != nil {
		return err
	}
	processes, err := p.runtime(c).Processes(c.Context, id)
	if err != nil {
		return err
	}
	if format == "table" {
		return psTable(c.App.Writer, columns, processes, time.Now())
	}
	pids := make([]int, 0, len(processes))
	for _, process := range processes {
		pids = append(pids, process.PID)
	}
	return json.NewEncoder(c.App.Writer).Encode(pids)
}

// column is one of ps(1).
type column struct {
	name, header string
	value        func(p sandbox.Process, now time.Time) string
}

func columns() []column {
	return []column{
		{"user", "USER", func(p sandbox.Process, _ time.Time) string { return userName(p.UID) }},
		{"uid", "UID", func(p sandbox.Process, _ time.Time) string { return strconv.Itoa(p.UID) }},
		{"pid", "PID", func(p sandbox.Process, _ time.Time) string { return strconv.Itoa(p.PID) }},
		{"ppid", "PPID", func(p sandbox.Process, _ time.Time) string { return strconv.Itoa(p.PPID) }},
		{"c", "C", func(p sandbox.Process, now time.Time) string { return strconv.Itoa(share(p, now)) }},
		{"stime", "STIME", func(p sandbox.Process, now time.Time) string { return startTime(p, now) }},
		{"tty", "TTY", func(p sandbox.Process, _ time.Time) string { return orDefault(p.TTY, "?") }},
		{"stat", "STAT", func(p sandbox.Process, _ time.Time) string { return plaintext.Line(p.State) }},
		{"time", "TIME", func(p sandbox.Process, _ time.Time) string { return cpuTime(p) }},
		{"bsdtime", "TIME", func(p sandbox.Process, _ time.Time) string { return bsdTime(p) }},
		{"comm", "COMMAND", func(p sandbox.Process, _ time.Time) string { return shortCommand(p.Command) }},
		{"args", "COMMAND", func(p sandbox.Process, _ time.Time) string { return plaintext.Line(p.Command) }},
	}
}

// aliases are other names that ps(1) has for columns.
func aliases() map[string]string {
	return map[string]string{"cmd": "args", "command": "args", "tt": "tty", "tname": "tty", "start": "stime", "euid": "uid", "euser": "user", "ucmd": "comm"}
}

// psColumns reads the options of ps(1): none means -ef.
func psColumns(args []string) ([]column, error) {
	var names []string
	bsd := false
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		options, ok := strings.CutPrefix(arg, "-")
		if !ok || options == "" {
			return nil, errPsOption(arg)
		}
		plain, list, hasList := strings.Cut(options, "o")
		if strings.Trim(plain, "eAfx") != "" {
			return nil, errPsOption(arg)
		}
		bsd = bsd || strings.Contains(plain, "x")
		if !hasList {
			continue
		}
		if list == "" {
			if len(args) == 0 {
				return nil, fmt.Errorf("ps option %q needs a list of columns", arg)
			}
			list, args = args[0], args[1:]
		}
		names = append(names, strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	switch {
	case len(names) > 0:
		return namedColumns(names)
	case bsd:
		return bsdColumns()
	}
	return fullColumns(), nil
}

func errPsOption(arg string) error {
	return fmt.Errorf("ps option %q is not supported: -e, -A, -f, -x and -o are", arg)
}

// bsdColumns are those of ps -x, with the first as ps puts it: to the right.
func bsdColumns() ([]column, error) {
	list, err := namedColumns([]string{"pid", "tty", "stat", "bsdtime", "args"})
	if err != nil {
		return nil, err
	}
	list[0].header = fmt.Sprintf("%7s", list[0].header)
	list[0].value = func(p sandbox.Process, _ time.Time) string { return fmt.Sprintf("%7d", p.PID) }
	return list, nil
}

// fullColumns are those of ps -ef.
func fullColumns() []column {
	list := slices.DeleteFunc(columns(), func(c column) bool {
		return c.name == "uid" || c.name == "stat" || c.name == "bsdtime" || c.name == "comm"
	})
	list[0].header = "UID" // as ps calls the name there
	list[len(list)-1].header = "CMD"
	return list
}

func namedColumns(names []string) ([]column, error) {
	var list []column
	for _, name := range names {
		name, header, renamed := strings.Cut(name, "=")
		if other, ok := aliases()[name]; ok {
			name = other
		}
		i := slices.IndexFunc(columns(), func(c column) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("ps column %q is not supported", name)
		}
		c := columns()[i]
		if renamed {
			c.header = header
		}
		list = append(list, c)
	}
	return list, nil
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
	return int(min(99, time.Duration(min(p.CPUNS, 1<<62))*100/age))
}

func started(p sandbox.Process) time.Time {
	return time.Unix(0, int64(min(p.StartNS, 1<<62)))
}

// startTime is a time for today, a date for this year, else a year, as in ps(1).
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

// userName is the host's name for the uid, as ps(1) on the host shows it under runc.
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
