package shim

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"runch/shimproto"

	"golang.org/x/sys/unix"
)

// The arguments of the program that make it a shim.
const (
	argShim     = "shim"
	argAnnounce = "announce"
	argNest     = "nest"
)

// Args are the program's arguments, for Main.
func Args() []string { return []string{argShim} }

// NestedArgs are those of a process that makes a shim in a pid namespace below its
// own, with the namespaces of these clone(2) flags, and ends. The shim is a child
// of its parent, to which it announces itself.
func NestedArgs(flags uintptr) []string {
	return []string{argShim, argNest, strconv.FormatUint(uint64(flags), 10)}
}

// IsShim tells whether the program's arguments are Args or NestedArgs.
func IsShim(args []string) bool { return len(args) > 1 && args[1] == argShim }

// Main is the program where it is a shim; the arguments begin with the program's
// name. It returns the exit code to end with.
func Main(args []string, newVM NewVMFunc) int {
	args = args[2:]
	switch {
	case len(args) == 2 && args[0] == argNest:
		return nest(args[1])
	case len(args) == 1 && args[0] == argAnnounce:
		return run(newVM, true)
	default:
		return run(newVM, false)
	}
}

// nest starts a shim with CLONE_PARENT. A process that has joined a pid namespace
// cannot make one below it (see pid_namespaces(7)); a child that was born in it can,
// and gives its own child to whoever waits for this one.
func nest(flags string) int {
	n, err := strconv.ParseUint(flags, 10, 32)
	if err == nil {
		err = startNested(uintptr(n))
	}
	if err == nil {
		return 0
	}
	if conn, openErr := shimproto.Open(os.NewFile(shimproto.SetupFD, "setup")); openErr == nil {
		_ = conn.Send(shimproto.Failed(err))
	}
	return exitUndone
}

func startNested(flags uintptr) error {
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr, os.NewFile(shimproto.SetupFD, "setup")}
	if _, err := unix.FcntlInt(shimproto.ConsoleFD, unix.F_GETFD, 0); err == nil {
		files = append(files, os.NewFile(shimproto.ConsoleFD, "console"))
	}
	_, err := os.StartProcess("/proc/self/exe", []string{"runch", argShim, argAnnounce}, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: flags | unix.CLONE_PARENT},
	})
	if err != nil {
		return fmt.Errorf("make a pid namespace below the sandbox's: %w", err)
	}
	return nil
}
