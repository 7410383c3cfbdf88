package commands

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"runch/plaintext"
	"runch/sandbox"
)

// column is a column of ps(1).
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
		{"tty", "TTY", func(p sandbox.Process, _ time.Time) string { return orDefault(plaintext.Line(p.TTY), "?") }},
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

// bsdColumns returns the columns of ps -x. The first is aligned to the right, as in ps.
func bsdColumns() ([]column, error) {
	list, err := namedColumns([]string{"pid", "tty", "stat", "bsdtime", "args"})
	if err != nil {
		return nil, err
	}
	list[0].header = fmt.Sprintf("%7s", list[0].header)
	list[0].value = func(p sandbox.Process, _ time.Time) string { return fmt.Sprintf("%7d", p.PID) }
	return list, nil
}

// fullColumns returns the columns of ps -ef.
func fullColumns() []column {
	list := slices.DeleteFunc(columns(), func(c column) bool {
		return c.name == "uid" || c.name == "stat" || c.name == "bsdtime" || c.name == "comm"
	})
	list[0].header = "UID" // as in ps -f, where the column UID has names
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
