package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"runch/procstat"
)

// reaped is the result of one wait4, a line of JSON.
type reaped struct {
	PID int `json:"pid"`
	// Status is what a caller reports: the exit code, or 128 plus the number of the signal.
	Status int `json:"status"`
	// Code is the exit code, -1 when the process was ended by a signal.
	Code int `json:"code"`
	// Signal is the number of the signal that ended the process, else 0.
	Signal int `json:"signal"`
	// StartTime is field 22 of /proc/PID/stat, read from the zombie before it was reaped.
	StartTime uint64 `json:"starttime"`
	// Time is when it was reaped, in milliseconds since 1970.
	Time int64 `json:"time"`
	// Command is the status of the command itself, CommandMS how long it took, and WaitMS how long the process
	// lived after the command's end (mode once).
	Command   int   `json:"command"`
	CommandMS int64 `json:"command_ms"`
	WaitMS    int64 `json:"wait_ms"`
}

// start runs the command with this process's stdio and returns its pid. Only reap may wait for it.
func start(args []string) (int, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	proc, err := os.StartProcess(path, args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 0, err
	}
	return proc.Pid, nil
}

// reap waits for any child, whether started here or reparented.
func reap() (*reaped, error) {
	var info unix.Siginfo
	for {
		// WNOWAIT leaves the zombie there so that its start time can still be read.
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
	pid := childPID(&info)
	stat, err := procstat.Of(pid)
	if err != nil {
		return nil, err
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return nil, fmt.Errorf("wait for process %d: %w", pid, err)
	}
	r := &reaped{PID: pid, Code: -1, StartTime: stat.StartTime, Time: time.Now().UnixMilli()}
	if status.Signaled() {
		r.Signal = int(status.Signal())
		r.Status = 128 + r.Signal
	} else {
		r.Code = status.ExitStatus()
		r.Status = r.Code
	}
	return r, nil
}

// watch runs the command and logs the orphans that end before the command does.
func watch(logFile string, args []string) (int, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	main, err := start(args)
	if err != nil {
		return 0, err
	}
	for {
		r, err := reap()
		if err != nil {
			return 0, err
		}
		if r.PID == main {
			return r.Status, nil
		}
		if err := json.NewEncoder(log).Encode(r); err != nil {
			return 0, err
		}
	}
}

// once runs the command, waits for the pid in the pid file, and prints how that process ended.
func once(pidFile string, args []string) (int, error) {
	began := time.Now()
	main, err := start(args)
	if err != nil {
		return 0, err
	}
	ended := map[int]*reaped{}
	for ended[main] == nil {
		r, err := reap()
		if err != nil {
			return 0, err
		}
		ended[r.PID] = r
	}
	took := time.Since(began)
	result := ended[main]
	if pidFile != "" && result.Status == 0 {
		pid, err := readPID(pidFile)
		if err != nil {
			return 0, err
		}
		for ended[pid] == nil {
			r, err := reap()
			if err != nil {
				return 0, fmt.Errorf("wait for process %d: %w", pid, err)
			}
			ended[r.PID] = r
		}
		result = ended[pid]
	}
	result.Command = ended[main].Status
	result.CommandMS = took.Milliseconds()
	result.WaitMS = (time.Since(began) - took).Milliseconds()
	return 0, json.NewEncoder(os.Stdout).Encode(result)
}

// never runs the command and then waits for SIGTERM.
func never(args []string) (int, error) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	main, err := start(args)
	if err != nil {
		return 0, err
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(main, &status, 0, nil); err != nil {
		return 0, fmt.Errorf("wait for the command: %w", err)
	}
	if status.ExitStatus() != 0 {
		return 0, fmt.Errorf("the command failed: wait status %#x", status)
	}
	<-stop
	return 0, nil
}

func readPID(file string) (int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(data))
}
