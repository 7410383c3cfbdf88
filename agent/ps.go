package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

const (
	// userHZ is the unit of time in /proc, on every machine that Go runs on.
	userHZ = 100
	tick   = uint64(time.Second / userHZ)
	// What is said of processes is bounded: a message has an end.
	maxProcesses = 4096
	maxCommand   = 512
)

// listProcesses describes the processes by what proc says. One that ends in
// between is left out.
func listProcesses(proc string, pids []int) []*agentproto.Process {
	boot := bootTime()
	out := make([]*agentproto.Process, 0, len(pids))
	for _, pid := range pids[:min(len(pids), maxProcesses)] {
		p, err := readProcess(filepath.Join(proc, strconv.Itoa(pid)))
		if err != nil {
			continue
		}
		p.Pid = int32(pid) // #nosec G115 -- a pid
		p.StartTimeNs += boot
		out = append(out, p)
	}
	return out
}

// bootTime is when the guest booted, by its present clock, in nanoseconds since the epoch.
func bootTime() uint64 {
	now, up := time.Now().UnixNano(), sinceBoot()
	return uint64(max(now, 0)) - min(up, uint64(max(now, 0))) // #nosec G115 -- not negative
}

// readProcess reads one directory of /proc; see proc_pid_stat(5).
func readProcess(dir string) (*agentproto.Process, error) {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil, err
	}
	p, comm, err := parseStat(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	p.Uid = st.Uid
	p.Command = "[" + comm + "]"
	if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && len(line) > 0 {
		p.Command = string(bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '}))
	}
	p.Command = strings.ToValidUTF8(p.Command[:min(len(p.Command), maxCommand)], "?")
	return p, nil
}

// parseStat reads a stat line. The name stands in parentheses and may hold
// anything, parentheses included.
func parseStat(data []byte) (*agentproto.Process, string, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return nil, "", fmt.Errorf("stat has no name: %w", unix.EINVAL)
	}
	fields := strings.Fields(string(data[end+1:]))
	const ppid, tty, utime, stime, start = 1, 4, 11, 12, 19
	if len(fields) <= start {
		return nil, "", fmt.Errorf("stat has %d fields: %w", len(fields), unix.EINVAL)
	}
	number := func(i int) uint64 {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil || n < 0 {
			return 0
		}
		return uint64(n)
	}
	return &agentproto.Process{
		Ppid:        int32(number(ppid)), // #nosec G115 -- a pid
		Tty:         ttyName(number(tty)),
		State:       statState(strings.TrimSpace(string(data[:open])), fields),
		CpuTimeNs:   (number(utime) + number(stime)) * tick,
		StartTimeNs: number(start) * tick,
	}, strings.ToValidUTF8(string(data[open+1:end]), "?"), nil
}

// statState is what ps(1) shows as STAT: the state, and what is remarkable about
// the process. Fields are those of its stat after the name.
func statState(pid string, fields []string) string {
	const state, pgrp, session, tpgid, nice, threads = 0, 2, 3, 5, 16, 17
	s := fields[state]
	switch {
	case strings.HasPrefix(fields[nice], "-"):
		s += "<"
	case fields[nice] != "0":
		s += "N"
	}
	if fields[session] == pid {
		s += "s"
	}
	if fields[threads] != "1" {
		s += "l"
	}
	if fields[pgrp] == fields[tpgid] {
		s += "+"
	}
	return s
}

// ttyName names a controlling terminal as ps(1) does.
func ttyName(dev uint64) string {
	major, minor := unix.Major(dev), unix.Minor(dev)
	const firstPTS, lastPTS = 136, 143
	switch {
	case dev == 0:
		return "?"
	case major >= firstPTS && major <= lastPTS:
		return fmt.Sprintf("pts/%d", (major-firstPTS)<<8|minor)
	default:
		return fmt.Sprintf("%d:%d", major, minor)
	}
}
