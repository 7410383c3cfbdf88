package state

import (
	"os"

	"runch/procstat"
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
	st, err := procstat.Of(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, StartTime: st.StartTime}, nil
}

// Alive tells whether the process is there and has not ended. A zombie has ended,
// and so has the init of a pid namespace that waits for zombies in it to be reaped:
// their parents may never do that.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	st, err := procstat.Of(p.PID)
	if err != nil || st.StartTime != p.StartTime || st.Zombie() {
		return false
	}
	return !st.Exiting() || !onlyZombies(p.PID)
}
