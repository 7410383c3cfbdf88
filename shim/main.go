package shim

import (
	"fmt"
	"os"
	"syscall"

	"runch/shimproto"

	"golang.org/x/sys/unix"
)

// Main runs this program in a role that is not a command's, and returns its exit code.
func Main(as shimproto.Invocation, newVM NewVMFunc) int {
	switch as.Role {
	case shimproto.RoleNest:
		return nest(as)
	case shimproto.RoleVictim:
		return victim()
	default:
		return run(newVM, as.Role == shimproto.RoleAnnounced)
	}
}

// nest starts a shim with CLONE_PARENT. A process that has joined a pid namespace
// cannot make one below it (see pid_namespaces(7)); a child that was born in it can,
// and gives its own child to whoever waits for this one.
func nest(as shimproto.Invocation) int {
	err := startNested(as)
	if err == nil {
		return 0
	}
	if conn, openErr := shimproto.Open(os.NewFile(shimproto.SetupFD, "setup")); openErr == nil {
		_ = conn.Send(shimproto.Failed(err))
	}
	return exitUndone
}

func startNested(as shimproto.Invocation) error {
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr, os.NewFile(shimproto.SetupFD, "setup")}
	if _, err := unix.FcntlInt(shimproto.ConsoleFD, unix.F_GETFD, 0); err == nil {
		files = append(files, os.NewFile(shimproto.ConsoleFD, "console"))
	}
	args := shimproto.Invocation{Role: shimproto.RoleAnnounced, Title: as.Title}.Args()
	_, err := os.StartProcess("/proc/self/exe", args, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: as.Flags | unix.CLONE_PARENT},
	})
	if err != nil {
		return fmt.Errorf("make a pid namespace below the sandbox's: %w", err)
	}
	return nil
}
