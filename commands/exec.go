package commands

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"runch/oci"
	"runch/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

// exitExec is the exit code of an exec that could not be launched; see runc.
const exitExec = 255

func (p *program) execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "execute a new process inside the container",
		ArgsUsage: "<container-id> <command> [command options] || -p process.json <container-id>",
		Description: "The exec command runs one more process in a container. Without --process it is the container's own process as\n" +
			"config.json has it, with another command and what the flags say. Flags come before the container's id.",
		Flags:  execFlags(),
		Action: p.exec,
	}
}

func execFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "console-socket", Usage: "`SOCKET` that gets the master of the process's terminal"},
		&cli.StringFlag{Name: "cwd", Usage: "working `DIR` in the container"},
		&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, KeepSpace: true, Usage: "set an environment variable, `NAME=VALUE`; may be repeated"},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the process a terminal"},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`UID` or UID:GID, as numbers"},
		&cli.Int64SliceFlag{Name: "additional-gids", Aliases: []string{"g"}, Usage: "one more `GID`; may be repeated"},
		&cli.StringFlag{Name: "process", Aliases: []string{"p"}, Usage: "`FILE` with the process as JSON"},
		&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when the process runs"},
		&cli.StringFlag{Name: "pid-file", Usage: "`FILE` to write the process id to"},
		&cli.StringFlag{Name: "process-label", Usage: "SELinux `LABEL` of the process"},
		&cli.StringFlag{Name: "apparmor", Usage: "AppArmor `PROFILE` of the process"},
		&cli.BoolFlag{Name: "no-new-privs", Usage: "set no_new_privs for the process"},
		&cli.StringSliceFlag{Name: "cap", Aliases: []string{"c"}, Usage: "add a `CAPABILITY` to the process; may be repeated"},
		&cli.IntFlag{Name: "preserve-fds", Usage: "pass `N` more file descriptors to the process: only 0 is possible, as its kernel is another"},
		&cli.StringSliceFlag{Name: "cgroup", KeepSpace: true, Usage: "run the process in an existing `SUB-CGROUP` of the container's in the guest"},
		&cli.BoolFlag{Name: "ignore-paused", Usage: "allow exec in a paused container"},
	}
}

func (p *program) exec(c *cli.Context) error {
	if err := minArgs(c, 1); err != nil {
		return err
	}
	code, err := p.execProcess(c)
	if err != nil {
		return &exitError{err: fmt.Errorf("exec failed: %w", err), code: exitExec}
	}
	return statusError(code)
}

func (p *program) execProcess(c *cli.Context) (int, error) {
	id, err := containerID(c)
	if err != nil {
		return 0, err
	}
	r := p.runtime(c)
	// As in runc, the container's state is checked before the flags that describe
	// the process.
	container, err := r.CheckExec(id, c.Bool("ignore-paused"))
	if err != nil {
		return 0, err
	}
	if err := refuseFDs(c); err != nil {
		return 0, err
	}
	process, err := execSpec(c, container.Bundle)
	if err != nil {
		return 0, err
	}
	detach := c.Bool("detach")
	if err := checkTerminal(process, detach, c.String("console-socket")); err != nil {
		return 0, err
	}
	cgroup, err := subCgroup(c.StringSlice("cgroup"))
	if err != nil {
		return 0, err
	}
	return r.Exec(c.Context, sandbox.ExecOptions{
		ID: id, Process: process, PIDFile: c.String("pid-file"), ConsoleSocket: c.String("console-socket"), Cgroup: cgroup,
		Detach: detach, IgnorePaused: c.Bool("ignore-paused"), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
}

// subCgroup returns the value of --cgroup: a single path, as the guest has cgroup v2.
func subCgroup(args []string) (string, error) {
	switch {
	case len(args) == 0:
		return "", nil
	case len(args) > 1:
		return "", fmt.Errorf("invalid --cgroup argument: %s (the guest has cgroup v2, where a process is in one cgroup)", args[1])
	case strings.Contains(args[0], ":"):
		return "", fmt.Errorf("invalid --cgroup argument: %s (the guest has cgroup v2, which takes no <controller>: prefix)", args[0])
	}
	return args[0], nil
}

// execSpec is the process that the command line describes.
func execSpec(c *cli.Context, bundle string) (*specs.Process, error) {
	if path := c.String("process"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return oci.LoadProcess(f)
	}
	if c.NArg() < 2 {
		return nil, errors.New("exec args cannot be empty")
	}
	process, err := bundleProcess(bundle)
	if err != nil {
		return nil, err
	}
	process.Args = c.Args().Tail()
	if err := applyFlags(c, process); err != nil {
		return nil, err
	}
	return process, oci.ValidateProcess(process)
}
