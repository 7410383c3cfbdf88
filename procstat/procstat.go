// Package procstat reads /proc/PID/stat, on the host and in the guest.
package procstat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unicode"
)

// Stat is what the kernel says of a process or a thread; see proc_pid_stat(5).
type Stat struct {
	// PID is its pid in the pid namespace of /proc.
	PID int
	// Name is the command's, at most 15 bytes of anything (a kernel thread's has up to 63).
	Name string
	// State is one letter: R, S, D, I, T, t, Z or X.
	State byte
	// Parent, Group and Session are pids.
	Parent, Group, Session int
	// Terminal is the number of the controlling terminal, 0 without one.
	Terminal uint64
	// ForegroundGroup is the terminal's foreground process group, -1 without one.
	ForegroundGroup int
	// Flags are the PF_* of linux/sched.h.
	Flags uint64
	// UserTime and SystemTime are in clock ticks, of which Linux shows 100 for a second.
	UserTime, SystemTime uint64
	// Nice is from -20 to 19.
	Nice int
	// Threads is the number of the process's threads.
	Threads int
	// StartTime is in clock ticks since boot. It tells a process from a later one of the same pid.
	StartTime uint64
}

// Read reads the file stat of a directory: /proc/PID, or /proc/PID/task/TID. The error
// wraps os.ErrNotExist or unix.ESRCH where the process is no more.
func Read(dir string) (Stat, error) {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Stat{}, err
	}
	st, err := Parse(data)
	if err != nil {
		return Stat{}, fmt.Errorf("read %s/stat: %w", dir, err)
	}
	return st, nil
}

// Of reads the stat of the process that has the pid now, as Read does.
func Of(pid int) (Stat, error) { return Read(fmt.Sprintf("/proc/%d", pid)) }

// Dead tells whether the thread has ended.
func (st Stat) Dead() bool { return st.State == 'Z' || st.State == 'X' }

// Zombie tells whether the process has ended. A process whose first thread has ended lives
// on as long as it has others.
func (st Stat) Zombie() bool { return st.Dead() && st.Threads <= 1 }

// Exiting tells whether the thread has ended or has begun to.
func (st Stat) Exiting() bool {
	const flag = 0x4 // PF_EXITING of linux/sched.h
	return st.Flags&flag != 0
}

// Parse parses the text of such a file.
func Parse(data []byte) (Stat, error) {
	// The name is in parentheses, and may hold blanks and parentheses itself.
	begin, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if begin < 0 || end < begin {
		return Stat{}, fmt.Errorf("no command in %q", data)
	}
	// The fields after the name begin with the third.
	const after = 3
	f := fields{list: bytes.Fields(data[end+1:])}
	const last = 22
	if len(f.list) <= last-after {
		return Stat{}, fmt.Errorf("too few fields in %q", data)
	}
	if len(f.list[0]) != 1 || !unicode.IsLetter(rune(f.list[0][0])) {
		return Stat{}, fmt.Errorf("no state in %q", data)
	}
	st := Stat{
		Name: string(data[begin+1 : end]), State: f.list[0][0],
		Parent: f.signed(4 - after), Group: f.signed(5 - after), Session: f.signed(6 - after),
		Terminal: f.unsigned(7 - after), ForegroundGroup: f.signed(8 - after), Flags: f.unsigned(9 - after),
		UserTime: f.unsigned(14 - after), SystemTime: f.unsigned(15 - after),
		Nice: f.signed(19 - after), Threads: f.signed(20 - after), StartTime: f.unsigned(last - after),
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(data[:begin])))
	if err := errors.Join(err, f.err); err != nil {
		return Stat{}, fmt.Errorf("a field of %q: %w", data, err)
	}
	st.PID = pid
	return st, nil
}

// fields are those after the name. err is the error of the last field that is no number.
type fields struct {
	list [][]byte
	err  error
}

func (f *fields) signed(i int) int {
	n, err := strconv.Atoi(string(f.list[i]))
	if err != nil {
		f.err = err
	}
	return n
}

func (f *fields) unsigned(i int) uint64 {
	n, err := strconv.ParseUint(string(f.list[i]), 10, 64)
	if err != nil {
		f.err = err
	}
	return n
}
