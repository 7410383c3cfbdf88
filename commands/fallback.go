package commands

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"runch/oci"
	"runch/sandbox"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// passedFlags are the global flags that the fallback runtime gets unchanged. It gets a
// --root of its own. The other flags are about virtual machines or are ignored.
var passedFlags = []string{"debug", "log", "log-format", "systemd-cgroup", "rootless"}

// fallbackFlags returns the global flags of a command line that are passed on.
func fallbackFlags(flags []cli.Flag, args []string) []string {
	var passed []string
	global, _ := splitGlobal(flags, args)
	for len(global) > 0 {
		name, _ := flagName(global[0])
		n := flagLength(flags, global)
		if slices.Contains(passedFlags, name) {
			passed = append(passed, global[:n]...)
		}
		global = global[n:]
	}
	return passed
}

// splitGlobal separates the global flags from the command with its flags and arguments.
func splitGlobal(flags []cli.Flag, args []string) (global, command []string) {
	if len(args) == 0 {
		return nil, nil
	}
	n := flagsLength(flags, args[1:])
	return args[1 : 1+n], args[1+n:]
}

// follows wraps a command: if its container was passed on, the fallback runtime that has
// it executes the command instead.
func (p *program) follows(c *cli.Command) *cli.Command {
	own := c.Action
	c.Action = func(c *cli.Context) error {
		f := p.runtime(c).FallbackOf(c.Context, c.Args().First())
		if f == nil {
			return own(c)
		}
		return p.become(c, f)
	}
	return c
}

// passOn lets the fallback runtime create the container if it cannot be in a VM. The
// fallback runtime then replaces this program. passOn returns nil if the container is
// for a VM.
func (p *program) passOn(c *cli.Context, r *sandbox.Runtime, id string, bundle *oci.Bundle) error {
	f, err := r.PassOn(c.Context, id, bundle)
	if f == nil || err != nil {
		return err
	}
	return errors.Join(p.become(c, f), r.Forget(c.Context, id))
}

// become executes the fallback runtime with the same command in place of this program. It
// so has the pid that the caller waits for and signals, and the same open files and
// environment.
func (p *program) become(c *cli.Context, f *sandbox.Fallback) error {
	flags := c.App.Flags
	_, command := splitGlobal(flags, p.args)
	if err := keepFDs(c.Int("preserve-fds") + listenFDs()); err != nil {
		return err
	}
	if err := unix.Exec(f.Program, f.Args(fallbackFlags(flags, p.args), command...), os.Environ()); err != nil {
		return fmt.Errorf("execute the container's runtime %s: %w", f.Program, err)
	}
	return nil
}

// keepFDs clears close-on-exec, which main has set for all file descriptors, of the first n
// after stdio: the next program gets them. It stops at one that is not open, as the next
// program reports that itself.
func keepFDs(n int) error {
	for fd := 3; fd < 3+n; fd++ {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		if errors.Is(err, unix.EBADF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("pass on file descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// listenFDs is the number of files of socket activation, see sd_listen_fds(3).
func listenFDs() int {
	pid, noPID := strconv.Atoi(os.Getenv("LISTEN_PID"))
	n, noCount := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if noPID != nil || noCount != nil || pid != os.Getpid() {
		return 0
	}
	return max(n, 0)
}
