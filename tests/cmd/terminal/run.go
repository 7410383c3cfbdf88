package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// run starts the command on a new pty, carries out instructions while it runs, and reports how it ended.
func (s *screen) run(args []string) error {
	if len(args) == 0 {
		return errors.New("no command given")
	}
	slave, err := s.open()
	if err != nil {
		return err
	}
	defer slave.Close()
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read the terminal's modes: %w", err)
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // the command ends by itself, and that is reported
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go s.copy(done)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := s.until(ended); err != nil {
		return err
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read the terminal's modes: %w", err)
	}
	// Once the last slave is closed, copy reads the remaining output and ends.
	_ = slave.Close()
	if err := <-done; err != nil {
		return err
	}
	return s.write(&report{IsPTYMaster: true, Status: status(cmd.ProcessState), Restored: *before == *after})
}

// until carries out instructions until the command has ended.
func (s *screen) until(ended <-chan error) error {
	lines := instructions()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				lines = nil
				continue
			}
			if err := s.execute(line); err != nil {
				return err
			}
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return err
			}
			return nil
		}
	}
}

// open makes a pty of 24 rows and 80 columns and returns its slave.
func (s *screen) open() (*os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	s.master = master
	var n uint32
	err = s.control(func(fd int) error {
		if n, err = unix.IoctlGetUint32(fd, unix.TIOCGPTN); err != nil {
			return fmt.Errorf("number of the pty: %w", err)
		}
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return fmt.Errorf("unlock the pty: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	return slave, s.resize(24, 80)
}

// status is the exit code, or 128 plus the number of the signal.
func status(p *os.ProcessState) int {
	ws, ok := p.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ExitCode()
}
