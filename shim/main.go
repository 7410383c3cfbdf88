package shim

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"runch/shimproto"

	"golang.org/x/sys/unix"
)

// programName is what the processes that stay are called.
const programName = "runch"

// The arguments of the program that make it a shim.
const (
	argShim     = "shim"
	argAnnounce = "announce"
	argNest     = "nest"
	argVictim   = "victim"
	// argTitle ends them: what follows is for who looks at the command line.
	argTitle = "--"
)

// maxTitle bounds the words of a process that the command line of its shim repeats,
// in bytes.
const maxTitle = 4096

// cutTitle parts arguments from what is not for this program.
func cutTitle(args []string) (own, title []string) {
	if i := slices.Index(args, argTitle); i >= 0 {
		return args[:i], args[i+1:]
	}
	return args, nil
}

// Args are the program's arguments, for Main. title is what the shim stands for, which
// callers that list the processes of a container show; empty for a holder alone.
func Args(title []string) []string { return withTitle(title, argShim) }

// NestedArgs are those of a process that makes a shim in a pid namespace below its
// own, with the namespaces of these clone(2) flags, and ends. The shim is a child
// of its parent, to which it announces itself.
func NestedArgs(flags uintptr, title []string) []string {
	return withTitle(title, argShim, argNest, strconv.FormatUint(uint64(flags), 10))
}

func withTitle(title []string, args ...string) []string {
	if len(title) == 0 {
		return args
	}
	args = append(args, argTitle)
	left := maxTitle
	for _, word := range title {
		if left -= len(word) + 1; left < 0 {
			break
		}
		args = append(args, word)
	}
	return args
}

// IsShim tells whether the program's arguments are Args or NestedArgs.
func IsShim(args []string) bool { return len(args) > 1 && args[1] == argShim }

// Main is the program where it is a shim; the arguments begin with the program's
// name. It returns the exit code to end with.
func Main(args []string, newVM NewVMFunc) int {
	args, title := cutTitle(args[2:])
	switch {
	case len(args) == 2 && args[0] == argNest:
		return nest(args[1], title)
	case len(args) == 1 && args[0] == argAnnounce:
		return run(newVM, true)
	case len(args) == 1 && args[0] == argVictim:
		return victim()
	default:
		return run(newVM, false)
	}
}

// nest starts a shim with CLONE_PARENT. A process that has joined a pid namespace
// cannot make one below it (see pid_namespaces(7)); a child that was born in it can,
// and gives its own child to whoever waits for this one.
func nest(flags string, title []string) int {
	n, err := strconv.ParseUint(flags, 10, 32)
	if err == nil {
		err = startNested(uintptr(n), title)
	}
	if err == nil {
		return 0
	}
	if conn, openErr := shimproto.Open(os.NewFile(shimproto.SetupFD, "setup")); openErr == nil {
		_ = conn.Send(shimproto.Failed(err))
	}
	return exitUndone
}

func startNested(flags uintptr, title []string) error {
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr, os.NewFile(shimproto.SetupFD, "setup")}
	if _, err := unix.FcntlInt(shimproto.ConsoleFD, unix.F_GETFD, 0); err == nil {
		files = append(files, os.NewFile(shimproto.ConsoleFD, "console"))
	}
	_, err := os.StartProcess("/proc/self/exe", append([]string{programName}, withTitle(title, argShim, argAnnounce)...), &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: flags | unix.CLONE_PARENT},
	})
	if err != nil {
		return fmt.Errorf("make a pid namespace below the sandbox's: %w", err)
	}
	return nil
}
