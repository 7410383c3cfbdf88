package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/procstat"
)

const (
	// userHZ is how many units of time in /proc a second has, on every machine that Go runs on.
	userHZ = 100
	tick   = uint64(time.Second / userHZ)
	// maxProcesses and maxCommand, in bytes, bound the answer: a message of ttrpc holds 4 MiB.
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

// readProcess describes the process of a directory of /proc.
func readProcess(dir string) (*agentproto.Process, error) {
	st, err := procstat.Read(dir)
	if err != nil {
		return nil, err
	}
	var owner unix.Stat_t
	if err := unix.Stat(dir, &owner); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	p := &agentproto.Process{
		Ppid:        int32(st.Parent), // #nosec G115 -- a pid
		Uid:         owner.Uid,
		Tty:         ttyName(st.Terminal),
		State:       statState(st),
		CpuTimeNs:   (st.UserTime + st.SystemTime) * tick,
		StartTimeNs: st.StartTime * tick,
		Command:     "[" + st.Name + "]",
	}
	if line := readCommand(dir); len(line) > 0 {
		p.Command = string(bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '}))
	}
	p.Command = strings.ToValidUTF8(p.Command, "?")
	return p, nil
}

// readCommand reads the beginning of a process's arguments, empty if it has none. It
// bounds them because a process itself can set where in its memory they are, and how long
// (PR_SET_MM_MAP).
func readCommand(dir string) []byte {
	f, err := os.Open(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil
	}
	defer f.Close()
	line, err := io.ReadAll(io.LimitReader(f, maxCommand))
	if err != nil {
		return nil
	}
	return line
}

// statState is what ps(1) shows as STAT: the state, and what is remarkable about
// the process.
func statState(st procstat.Stat) string {
	s := string(st.State)
	switch {
	case st.Nice < 0:
		s += "<"
	case st.Nice > 0:
		s += "N"
	}
	if st.Session == st.PID {
		s += "s"
	}
	if st.Threads > 1 {
		s += "l"
	}
	if st.Group == st.ForegroundGroup {
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
