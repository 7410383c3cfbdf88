package state

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Process is a process on the host. The start time tells it from a later one
// that has been given the same pid.
type Process struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat: clock ticks since boot.
	StartTime uint64 `json:"startTime"`
}

// Self is the process that calls.
func Self() (Process, error) { return ProcessOf(os.Getpid()) }

// ProcessOf is the process that has the pid now. The error wraps
// os.ErrNotExist or unix.ESRCH when there is none.
func ProcessOf(pid int) (Process, error) {
	st, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, StartTime: st.startTime}, nil
}

// Alive tells whether the process is there and has not ended: a zombie, which
// only waits for its parent to ask, is dead.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	st, err := readStat(p.PID)
	return err == nil && st.startTime == p.StartTime && st.state != 'Z' && st.state != 'X'
}

// stat is what we need of /proc/PID/stat; see proc_pid_stat(5).
type stat struct {
	state     byte
	startTime uint64
}

func readStat(pid int) (stat, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	st, err := parseStat(data)
	if err != nil {
		return stat{}, fmt.Errorf("read %s: %w", path, err)
	}
	return st, nil
}

func parseStat(data []byte) (stat, error) {
	// The second field is the command's name in parentheses, which may hold
	// blanks and parentheses itself: the rest begins behind the last one.
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("no command in %q", data)
	}
	fields := bytes.Fields(data[end+1:])
	// The rest begins with field 3, the state; field 22 is the start time.
	const stateField, startTimeField = 0, 22 - 3
	if len(fields) <= startTimeField || len(fields[stateField]) != 1 {
		return stat{}, fmt.Errorf("too few fields in %q", data)
	}
	start, err := strconv.ParseUint(string(fields[startTimeField]), 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("start time: %w", err)
	}
	return stat{state: fields[stateField][0], startTime: start}, nil
}
