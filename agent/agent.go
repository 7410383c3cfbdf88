package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"runch/agentproto"
	"runch/unixsocket"
)

// maxControl bounds the control connections open at one time: each process that
// a shim stands for has one, and each command one for a moment.
const maxControl = 8192

// Agent serves one guest.
type Agent struct {
	log           *slog.Logger
	debug         bool
	streams       *streams
	relays        *relays
	names         *names
	table         *table
	reaper        *reaper
	namespaces    *namespaces
	memory        *sharedMemory
	volumes       *volumes
	timeline      timeline
	calls         atomic.Uint64
	control       atomic.Int64
	configuration configuration
	reporting     sync.Once
	// bootMemory is the guest's memory when the agent started, in bytes.
	bootMemory uint64
	// moduleErr says which kernel modules did not load at boot. It is reported
	// only with an error that it may explain: most modules are for devices that
	// a VM need not have.
	moduleErr error
}

// newAgent makes an agent that has nothing yet.
func newAgent(log *slog.Logger, debug bool) *Agent {
	return &Agent{
		log:           log,
		debug:         debug,
		streams:       newStreams(streamTimeout),
		relays:        &relays{netns: agentproto.GuestNetNS},
		names:         newNames(agentproto.GuestNetNS),
		table:         newTable(),
		reaper:        newReaper(),
		configuration: configuration{mountShare: mountShare, applyNetwork: applyToContainers},
		namespaces:    newNamespaces(namespaceDir),
		memory:        newSharedMemory(agentproto.GuestMemoryDir),
		volumes:       newVolumes(agentproto.GuestSharedDir),
	}
}

// serve accepts on all ports. The channel gets an error from each port that
// breaks. The ports of a serial transport break when the host is gone.
func (a *Agent) serve(ctx context.Context, way *transport) (<-chan error, error) {
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(a.intercept))
	if err != nil {
		return nil, fmt.Errorf("make the control server: %w", err)
	}
	agentproto.RegisterAgentService(server, a)
	broken := make(chan error, 3)
	go func() { broken <- server.Serve(ctx, controlListener{Listener: way.control, open: &a.control}) }()
	go func() { broken <- a.accept(way.streams, "stream", a.streams.accept) }()
	go func() {
		broken <- a.accept(way.relays, "relay", func(conn net.Conn) error { return a.relays.serve(ctx, conn) })
	}()
	return broken, nil
}

// accept gives each connection of a port to a goroutine of its own.
func (a *Agent) accept(l net.Listener, what string, serve func(net.Conn) error) error {
	for {
		conn, err := unixsocket.Accept(l.Accept)
		if err != nil {
			return err
		}
		go func() {
			if err := serve(conn); err != nil {
				a.log.Debug(what+" refused", "error", err)
			}
		}()
	}
}

// intercept counts the calls and gives their errors a code.
func (a *Agent) intercept(ctx context.Context, decode ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
	a.calls.Add(1)
	start := time.Now()
	resp, err := method(ctx, decode)
	a.log.Debug("call", "method", info.FullMethod, "took", time.Since(start), "error", err)
	if err != nil {
		return nil, toStatus(err)
	}
	return resp, nil
}

// hello says to the host that the agent serves.
func (a *Agent) hello(conn net.Conn) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	a.timeline.mark(func(t *agentproto.Timeline) *uint64 { return &t.HelloNs })
	return agentproto.WriteHello(conn, &agentproto.Hello{
		Protocol:      agentproto.Version,
		AgentVersion:  version(),
		KernelRelease: kernelRelease(),
		Timeline:      a.timeline.snapshot(),
	})
}

// helloTimeout is how long the host may take to take the hello.
const helloTimeout = time.Minute

// version is the one that the Go tool wrote into the binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
