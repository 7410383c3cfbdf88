package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's own struct (rt_sigaction(2)); all zero is SIG_DFL with no flags.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// die ends this process by the signal. It restores the default action first: the Go runtime's own handlers turn some
// signals into an exit with status 2.
func die(n int) error {
	runtime.LockOSThread()
	var act sigaction
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(n), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	// The action of KILL and STOP cannot be set (sigaction(2)).
	if errno != 0 && n != int(unix.SIGKILL) && n != int(unix.SIGSTOP) {
		return fmt.Errorf("reset signal %d: %w", n, errno)
	}
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return fmt.Errorf("unblock signals: %w", err)
	}
	if err := unix.Tgkill(os.Getpid(), unix.Gettid(), syscall.Signal(n)); err != nil {
		return fmt.Errorf("signal %d to myself: %w", n, err)
	}
	return fmt.Errorf("still alive after signal %d", n)
}

// signals prints the number of each signal that arrives, until SIGUSR2.
func signals() error {
	ch := make(chan os.Signal, 64)
	signal.Notify(ch)
	// The runtime uses SIGURG to interrupt its own goroutines.
	signal.Ignore(unix.SIGURG)
	fmt.Println("ready")
	for s := range ch {
		n, ok := s.(syscall.Signal)
		if !ok {
			continue
		}
		fmt.Println("got", int(n))
		if n == unix.SIGUSR2 {
			return nil
		}
	}
	return nil
}
