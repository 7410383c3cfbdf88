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

// Alive tells whether the process is there and has not ended. A zombie has ended,
// and so has the init of a pid namespace that waits for zombies in it to be reaped:
// their parents may never do that.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	st, err := readStat(p.PID)
	if err != nil || st.startTime != p.StartTime || st.zombie() {
		return false
	}
	return !st.exiting() || !onlyZombies(p.PID)
}

// stat is what we need of /proc/PID/stat; see proc_pid_stat(5).
type stat struct {
	state     byte
	parent    int
	flags     uint64
	threads   int
	startTime uint64
}

// dead tells whether the thread has ended.
func (st stat) dead() bool { return st.state == 'Z' || st.state == 'X' }

// zombie tells whether the process has ended. If only its first thread has, the
// others still count.
func (st stat) zombie() bool { return st.dead() && st.threads <= 1 }

// exiting tells whether the thread has ended or has begun to.
func (st stat) exiting() bool {
	const flag = 0x4 // PF_EXITING of linux/sched.h
	return st.flags&flag != 0
}

func readStat(pid int) (stat, error) { return readStatFile(fmt.Sprintf("/proc/%d/stat", pid)) }

func readStatFile(path string) (stat, error) {
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
	// The rest begins with field 3, the state.
	const stateField, parentField, flagsField, threadsField, startTimeField = 0, 4 - 3, 9 - 3, 20 - 3, 22 - 3
	if len(fields) <= startTimeField || len(fields[stateField]) != 1 {
		return stat{}, fmt.Errorf("too few fields in %q", data)
	}
	st := stat{state: fields[stateField][0]}
	var err error
	if st.parent, err = strconv.Atoi(string(fields[parentField])); err != nil {
		return stat{}, fmt.Errorf("parent: %w", err)
	}
	if st.flags, err = strconv.ParseUint(string(fields[flagsField]), 10, 64); err != nil {
		return stat{}, fmt.Errorf("flags: %w", err)
	}
	if st.threads, err = strconv.Atoi(string(fields[threadsField])); err != nil {
		return stat{}, fmt.Errorf("number of threads: %w", err)
	}
	if st.startTime, err = strconv.ParseUint(string(fields[startTimeField]), 10, 64); err != nil {
		return stat{}, fmt.Errorf("start time: %w", err)
	}
	return st, nil
}
