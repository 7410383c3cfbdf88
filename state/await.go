package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Kill ends a process at once, with SIGKILL, and waits for its end as AwaitEnd does.
func (p Process) Kill(ctx context.Context) error {
	pidfd, err := p.open()
	if pidfd == nil || err != nil {
		return err
	}
	defer pidfd.Close()
	if err := kill(pidfd); err != nil {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	return p.await(ctx, pidfd)
}

// AwaitEnd waits until the process is not Alive any more. It need not be a child.
func (p Process) AwaitEnd(ctx context.Context) error {
	pidfd, err := p.open()
	if pidfd == nil || err != nil {
		return err
	}
	defer pidfd.Close()
	return p.await(ctx, pidfd)
}

// kill sends SIGKILL. That the process has ended is no error.
func kill(pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

// open returns a pidfd (pidfd_open(2)) of the process, nil if it has ended.
func (p Process) open() (*os.File, error) {
	if !p.Alive() {
		return nil, nil
	}
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", p.PID, err)
	}
	if !p.Alive() {
		_ = unix.Close(fd) // it may be of a later process with the same pid
		return nil, nil
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("process %d", p.PID)), nil
}

// await waits until the pidfd is readable. The pidfd of an init that waits for zombies
// does not become readable, and no event reports such an init, so await also asks Alive,
// at growing intervals.
func (p Process) await(ctx context.Context, pidfd *os.File) error {
	const first, last = 5 * time.Millisecond, 200 * time.Millisecond
	stop := context.AfterFunc(ctx, func() { _ = pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for pause := first; ctx.Err() == nil; pause = min(2*pause, last) {
		ended, err := readableWithin(ctx, pidfd, pause)
		if err != nil {
			return fmt.Errorf("wait for process %d: %w", p.PID, err)
		}
		if ended || !p.Alive() {
			return nil
		}
	}
	return fmt.Errorf("process %d did not end in time: %w", p.PID, context.Cause(ctx))
}

// readableWithin waits until the file is readable, at most for the pause and until
// ctx is done.
func readableWithin(ctx context.Context, f *os.File, pause time.Duration) (bool, error) {
	if err := f.SetReadDeadline(time.Now().Add(pause)); err != nil {
		return false, err
	}
	select {
	case <-ctx.Done():
		return false, nil // the deadline set above may have replaced that of await's AfterFunc
	default:
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	err = conn.Read(isReadable)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	return err == nil, err
}

// isReadable takes the place of a read, which a pidfd does not have.
func isReadable(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}
