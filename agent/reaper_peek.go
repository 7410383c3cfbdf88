package agent

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfoPID is the index of the 32-bit word in which waitid(2) puts the child's
// pid: after si_signo, si_errno, si_code and, on 64-bit machines, their padding.
const (
	siginfoPID   = 4
	siginfoWords = int(unsafe.Sizeof(unix.Siginfo{}) / 4)
)

// peekChild gives a child that has ended and leaves it unreaped; 0 if there is none.
func peekChild() (int, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("waitid", err)
		}
		return int((*[siginfoWords]int32)(unsafe.Pointer(&info))[siginfoPID]), nil
	}
}
