package agent

import (
	"errors"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/procstat"
)

const (
	// lostExit is the exit code of a process whose real one is unknown.
	lostExit = 255
	// killedExit is the exit code of a process that SIGKILL has ended.
	killedExit = 128 + uint32(unix.SIGKILL)
)

// process is one process that the host started: a container's init or an exec.
type process struct {
	lc    *libcontainer.Process
	stdio *stdio
	pid   int

	// exited is closed when the process has ended, done when its output is sent
	// as well and result can be read.
	exited chan struct{}
	done   chan struct{}
	result *agentproto.WaitResponse
	// waits counts the Wait calls there have been.
	waits atomic.Int32
	// waiting is how many of them are open: one for each shim that lives.
	waiting atomic.Int32
	// abandoned says that the shim, which would ask for the result, is gone.
	abandoned atomic.Bool
}

// exitCode is what a shell would say: the code, or 128 and the signal.
func exitCode(state *os.ProcessState) uint32 {
	if state == nil {
		return lostExit
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return lostExit
	}
	if ws.Signaled() {
		return 128 + uint32(ws.Signal()) // #nosec G115 -- 1 to 64
	}
	return uint32(ws.ExitStatus()) // #nosec G115 -- 0 to 255
}

// wait waits for the process itself and gives its exit code.
func (p *process) wait() uint32 {
	state, err := p.lc.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && state == nil {
		return lostExit
	}
	return exitCode(state)
}

// ending tells whether the process has ended or is exiting: the exit of a pid
// namespace's init takes until all other processes in it have ended.
func (p *process) ending() bool {
	select {
	case <-p.exited:
		return true
	default:
	}
	st, err := procstat.Of(p.pid)
	return err != nil || st.Exiting()
}

// signal delivers sig. It can be called at any time; a process that has ended
// gives errProcessDone.
func (p *process) signal(sig unix.Signal) error {
	select {
	case <-p.exited:
		return errProcessDone
	default:
	}
	err := p.lc.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) {
		return errProcessDone
	}
	return err
}

// newProcess turns an OCI process into libcontainer's.
func newProcess(p *specs.Process, size *agentproto.TerminalSize, debug bool) (*libcontainer.Process, error) {
	affinity, err := configs.ConvertCPUAffinity(p.ExecCPUAffinity)
	if err != nil {
		return nil, invalidf("process.execCPUAffinity: %v", err)
	}
	limits, err := rlimits(p.Rlimits)
	if err != nil {
		return nil, err
	}
	if err := reserveFor(limits); err != nil {
		return nil, err
	}
	lp := &libcontainer.Process{
		Args:            p.Args,
		Env:             p.Env,
		UID:             int(p.User.UID),
		GID:             int(p.User.GID),
		Cwd:             p.Cwd,
		Capabilities:    capabilities(p.Capabilities),
		AppArmorProfile: p.ApparmorProfile,
		Label:           p.SelinuxLabel,
		NoNewPrivileges: &p.NoNewPrivileges,
		Rlimits:         limits,
		Scheduler:       p.Scheduler,
		IOPriority:      p.IOPriority,
		CPUAffinity:     affinity,
		LogLevel:        logLevel(debug),
	}
	for _, gid := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(gid))
	}
	if p.Terminal {
		lp.ConsoleHeight, lp.ConsoleWidth = consoleSize(p.ConsoleSize, size)
	}
	return lp, nil
}

// consoleSize prefers the size that the host measured to the one in the spec.
func consoleSize(spec *specs.Box, host *agentproto.TerminalSize) (height, width uint16) {
	if host != nil {
		return uint16(host.GetHeight()), uint16(host.GetWidth()) // #nosec G115 -- bounded by checkSize
	}
	if spec == nil || spec.Height >= maxTerminal || spec.Width >= maxTerminal {
		return 0, 0
	}
	return uint16(spec.Height), uint16(spec.Width)
}

func capabilities(c *specs.LinuxCapabilities) *configs.Capabilities {
	if c == nil {
		return nil
	}
	return &configs.Capabilities{
		Bounding:    c.Bounding,
		Effective:   c.Effective,
		Inheritable: c.Inheritable,
		Permitted:   c.Permitted,
		Ambient:     c.Ambient,
	}
}

// logLevel is the log level of libcontainer's init as a number of logrus: debug or error.
func logLevel(debug bool) string {
	if debug {
		return "5"
	}
	return "2"
}

// finish sends the rest of the output and answers the open Wait calls with resp.
func (p *process) finish(resp *agentproto.WaitResponse) {
	p.stdio.finish(resp.GetExitCode() == killedExit)
	resp.StdoutBytes = p.stdio.out.bytes()
	resp.StderrBytes = p.stdio.err.bytes()
	p.result = resp
	close(p.done)
}
