package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

const (
	// gcPercent makes the heap small at the cost of collecting more often: the
	// agent lives in the memory that the user pays for, and is idle.
	gcPercent = 50
	// memoryLimit is the Go runtime's soft limit, in bytes.
	memoryLimit = 12 << 20
	// maxAgentFiles is how many files the agent may have open.
	maxAgentFiles = 64 << 10
)

// errNotInit says that the agent is not PID 1 of a guest. On any other machine it would
// change the root, the mounts and the kernel's settings.
var errNotInit = errors.New("the agent is the first process of a runch guest, which `runch guest build` puts it into; it is not started by hand")

// Run does the work of PID 1: it brings the guest up, says hello, and serves until
// the transport to the host is cut. Then it turns the VM off. It returns only with an
// error; the caller prints it and exits, and the VM ends with it.
func Run(ctx context.Context) error {
	if os.Getpid() != 1 {
		return errNotInit
	}
	start := sinceBoot()
	// The Go runtime has read it, and it is not for the programs that hooks run.
	if err := os.Unsetenv("GODEBUG"); err != nil {
		return fmt.Errorf("clear the environment: %w", err)
	}
	// The kernel gives the first process 4096, and each attached process takes eight here.
	// Whatever it starts for a container has limits of its own.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxAgentFiles, Max: maxAgentFiles}); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	if err := leaveInitramfs(); err != nil {
		return err
	}
	if err := mountGuest(); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the kernel's command line: %w", err)
	}
	params, err := ParseCmdline(string(cmdline))
	if err != nil {
		return err
	}
	out := io.Discard
	if params.Debug {
		out = os.Stderr
	}
	a := newAgent(newLog(out, params.Debug), params.Debug)
	a.timeline.t.AgentStartNs = start
	if a.bootMemory, err = totalMemory(); err != nil {
		return err
	}
	go a.reaper.run(ctx)

	a.moduleErr = loadModules(bootModules)
	if params.Transport == agentproto.TransportVsock {
		a.moduleErr = errors.Join(a.moduleErr, loadModules(vsockModules))
	}
	a.timeline.mark(func(t *agentproto.Timeline) *uint64 { return &t.ModulesLoadedNs })
	way, err := openTransport(ctx, params, out)
	if err != nil {
		return joinReason(err, a.moduleErr)
	}
	if err := makeNetNS(agentproto.GuestNetNS); err != nil {
		return err
	}
	return a.live(ctx, way)
}

// live serves, says hello, and turns the VM off when the transport is cut.
func (a *Agent) live(ctx context.Context, way *transport) error {
	broken, err := a.serve(ctx, way)
	if err != nil {
		return err
	}
	conn, err := way.dialHello(ctx)
	if err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	if err := a.hello(conn); err != nil {
		return err
	}
	select {
	case <-way.cut:
	case err := <-broken:
		if way.cut == nil {
			return fmt.Errorf("serve: %w", err)
		}
	case <-ctx.Done():
	}
	a.killAll()
	return powerOff()
}

// newLog makes the agent's log, and points libcontainer's own at the same place.
func newLog(out io.Writer, debugging bool) *slog.Logger {
	logrus.SetOutput(out)
	level := slog.LevelError
	if debugging {
		level = slog.LevelDebug
		logrus.SetLevel(logrus.DebugLevel)
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
}

// joinReason adds to an error what may have caused it.
func joinReason(err, reason error) error {
	if reason == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", err, reason)
}
