package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// commandTimeout bounds every command whose caller has no bound of its own.
const commandTimeout = 2 * time.Minute

// cost is what a command took.
type cost struct {
	wall time.Duration
	// own is the CPU time, user and system, of the command's process. all includes that of the children that the
	// process has waited for.
	own, all time.Duration
}

// spawn starts a command; see runtime.start.
type spawn func(*exec.Cmd) error

// measure runs a command with stdout as its standard output (nil for /dev/null) and returns its cost. Its standard
// error is a file: with a pipe, Wait would block until the last process that inherits it has closed it.
func measure(ctx context.Context, start spawn, stdout *os.File, argv ...string) (cost, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, commandTimeout)
		defer cancel()
	}
	fd, err := unix.MemfdCreate("stderr", unix.MFD_CLOEXEC)
	if err != nil {
		return cost{}, fmt.Errorf("make a file for the stderr of %s: %w", argv[0], err)
	}
	stderr := os.NewFile(uintptr(fd), "stderr")
	defer stderr.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = stderr
	if stdout != nil {
		cmd.Stdout = stdout
	}
	began := time.Now()
	if err := start(cmd); err != nil {
		return cost{}, err
	}
	ended := awaitEnd(cmd.Process.Pid)
	c := cost{wall: time.Since(began)}
	var cpuErr error
	c.own, cpuErr = cpuTime(cmd.Process.Pid) // the zombie still has it
	if err := errors.Join(cmd.Wait(), ended, cpuErr); err != nil {
		return c, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, beginning(stderr))
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return c, errors.New("the kernel tells no resource usage")
	}
	c.all = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return c, nil
}

// awaitEnd waits until the child has ended, and does not reap it.
func awaitEnd(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// cpuTime returns the CPU time that all threads of a process have used so far, without its children, by its CPU clock.
// It makes the clock's id as clock_getcpuclockid(3) does.
func cpuTime(pid int) (time.Duration, error) {
	const perProcess = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|perProcess, &ts); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// reap waits for the end of a container's process, which has been reparented to this process.
func reap(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	process, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("find process %d: %w", pid, err)
	}
	defer context.AfterFunc(ctx, func() { _ = process.Kill() })()
	_, err = process.Wait()
	return errors.Join(err, ctx.Err())
}

// beginning gives the first 4 KiB of a file, without white space around them.
func beginning(f *os.File) string {
	buf := make([]byte, 4096)
	n, err := f.ReadAt(buf, 0)
	if n == 0 && err != nil {
		return "nothing"
	}
	return string(bytes.TrimSpace(buf[:n]))
}
