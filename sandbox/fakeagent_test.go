package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"runch/agentproto"
	"runch/hypervisor"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// awaitedFile is where the fake guests note the memory, in MiB above that of the boot, of
// each AwaitMemory, beside failFile.
const awaitedFile = "awaited"

// fakeAgent keeps containers that do nothing but wait for a signal.
type fakeAgent struct {
	agentproto.AgentService
	dir     *os.Root
	control chan net.Conn
	once    sync.Once
	// over is closed when its VM is to end.
	over chan struct{}

	mu         sync.Mutex
	configured bool
	containers map[string]*fakeProcess
	// nics are the interfaces that the VM has, each with its tap; network is what the
	// guest was told of them.
	nics    map[string]fakeNIC
	network *agentproto.Network
}

// fakeNIC has its own copies of a tap, as a VMM has.
type fakeNIC struct {
	mac  string
	taps []int
}

// fakeSlots is how many interfaces fit into a fake VM.
const fakeSlots = 4

func (a *fakeAgent) plug(nic hypervisor.NIC) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.nics) == fakeSlots {
		return hypervisor.ErrNoSlot
	}
	plugged := fakeNIC{mac: nic.MAC.String()}
	for _, f := range nic.Tap {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		_ = raw.Control(func(fd uintptr) {
			n, dupErr := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
			plugged.taps, err = append(plugged.taps, n), dupErr
		})
		if err != nil {
			return err
		}
	}
	a.nics[nic.ID] = plugged
	return nil
}

// macs are the hardware addresses that the VM's interfaces have.
func (a *fakeAgent) macs() map[string]bool {
	macs := make(map[string]bool)
	for _, nic := range a.nics {
		macs[nic.mac] = true
	}
	return macs
}

type fakeProcess struct {
	mu    sync.Mutex
	ended chan struct{}
	code  uint32
}

// fails tells whether a step is to fail.
func (a *fakeAgent) fails(step string) bool {
	data, err := a.dir.ReadFile(failFile)
	return err == nil && slices.Contains(strings.Fields(string(data)), step)
}

func (a *fakeAgent) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			in := bufio.NewReaderSize(conn, 16)
			line, err := in.ReadString('\n')
			var port uint32
			if _, scanErr := fmt.Sscanf(line, "CONNECT %d", &port); err != nil || scanErr != nil {
				_ = conn.Close()
				return
			}
			_, _ = io.WriteString(conn, "OK 1\n")
			a.accept(conn, port)
		}()
	}
}

// accept takes a connection to a port of the guest.
func (a *fakeAgent) accept(conn net.Conn, port uint32) {
	if port == agentproto.StreamPort {
		_, _ = agentproto.ReadStreamHeader(conn)
		_ = conn.Close() // its processes have nothing to say
		return
	}
	a.once.Do(func() {
		server, err := ttrpc.NewServer()
		if err != nil {
			panic(err)
		}
		agentproto.RegisterAgentService(server, a)
		go func() { _ = server.Serve(context.Background(), controlListener{a.control}) }()
	})
	a.control <- conn
}

// controlListener is a listener of connections that have come already.
type controlListener struct{ conns chan net.Conn }

func (l controlListener) Accept() (net.Conn, error) { return <-l.conns, nil }
func (controlListener) Close() error                { return nil }
func (controlListener) Addr() net.Addr              { return &net.UnixAddr{} }

// step is the error of a call that is to fail.
func (a *fakeAgent) step(name string) error {
	if a.fails(name) {
		return status.Error(codes.Internal, "the fake agent fails as it is to")
	}
	return nil
}

func (a *fakeAgent) Configure(_ context.Context, r *agentproto.ConfigureRequest) (*agentproto.ConfigureResponse, error) {
	if n := len(r.GetSeed()); n != 32 {
		return nil, status.Errorf(codes.InvalidArgument, "%d random bytes, not 32", n)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.configured = true
	return &agentproto.ConfigureResponse{}, a.step("configure")
}

func (a *fakeAgent) CreateContainer(ctx context.Context, r *agentproto.CreateContainerRequest) (*agentproto.CreateContainerResponse, error) {
	if a.fails("lose") {
		close(a.over)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := a.step("create"); err != nil {
		return nil, err
	}
	if err := a.dir.WriteFile("guest-"+r.GetContainerId(), r.GetSpec(), 0o600); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.configured {
		return nil, status.Error(codes.FailedPrecondition, "not configured")
	}
	for _, ns := range r.GetSharedNamespaces() {
		if of := ns.GetContainerId(); of != "" && a.containers[of] == nil {
			return nil, status.Errorf(codes.NotFound, "no container %s to join", of)
		}
	}
	a.containers[r.GetContainerId()] = &fakeProcess{ended: make(chan struct{})}
	return &agentproto.CreateContainerResponse{Pid: 1}, nil
}

func (a *fakeAgent) StartContainer(_ context.Context, r *agentproto.StartContainerRequest) (*agentproto.StartContainerResponse, error) {
	if err := a.setNetwork(r.GetNetwork()); err != nil {
		return nil, err
	}
	return &agentproto.StartContainerResponse{}, a.step("start")
}

// setNetwork refuses interfaces that the VM does not have, as a guest does.
func (a *fakeAgent) setNetwork(n *agentproto.Network) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	macs := a.macs()
	for _, i := range n.GetInterfaces() {
		if !macs[i.GetMac()] {
			return status.Errorf(codes.Internal, "no NIC %s appeared", i.GetMac())
		}
	}
	a.network = n
	return nil
}

func (a *fakeAgent) SetNetwork(_ context.Context, r *agentproto.SetNetworkRequest) (*agentproto.SetNetworkResponse, error) {
	if err := a.step("network"); err != nil {
		return nil, err
	}
	return &agentproto.SetNetworkResponse{}, a.setNetwork(r.GetNetwork())
}

func (a *fakeAgent) Interfaces(context.Context, *agentproto.InterfacesRequest) (*agentproto.InterfacesResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer, macs := &agentproto.InterfacesResponse{}, a.macs()
	for _, i := range a.network.GetInterfaces() {
		if macs[i.GetMac()] {
			answer.Interfaces = append(answer.Interfaces, i)
		}
	}
	return answer, a.step("interfaces")
}

// askedFile is a file beside failFile. A fake guest makes it when it gets a call that it
// leaves unanswered for as long as the caller waits.
const askedFile = "asked"

func (a *fakeAgent) hang(ctx context.Context) error {
	if err := a.dir.WriteFile(askedFile, nil, 0o600); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (a *fakeAgent) Exec(ctx context.Context, r *agentproto.ExecRequest) (*agentproto.ExecResponse, error) {
	if a.fails("slow-exec") {
		return nil, a.hang(ctx)
	}
	if err := a.step("exec"); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.containers[r.GetContainerId()+"/"+r.GetExecId()] = &fakeProcess{ended: make(chan struct{})}
	return &agentproto.ExecResponse{Pid: 2}, nil
}

func (a *fakeAgent) process(container, exec string) (*fakeProcess, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if exec != "" {
		container += "/" + exec
	}
	p := a.containers[container]
	if p == nil {
		return nil, status.Error(codes.NotFound, "no such process")
	}
	return p, nil
}

func (a *fakeAgent) Wait(ctx context.Context, r *agentproto.WaitRequest) (*agentproto.WaitResponse, error) {
	p, err := a.process(r.GetContainerId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	select {
	case <-p.ended:
		return &agentproto.WaitResponse{ExitCode: p.code, OomKilled: a.fails("memory")}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *fakeAgent) Signal(_ context.Context, r *agentproto.SignalRequest) (*agentproto.SignalResponse, error) {
	if err := a.step("signal"); err != nil {
		return nil, err
	}
	p, err := a.process(r.GetContainerId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.code == 0 && r.GetSignal() != 0 {
		p.code = 128 + r.GetSignal()
		close(p.ended)
	}
	return &agentproto.SignalResponse{}, nil
}

// AwaitOOM counts no kills, or all that a number can hold.
func (a *fakeAgent) AwaitOOM(ctx context.Context, r *agentproto.AwaitOOMRequest) (*agentproto.AwaitOOMResponse, error) {
	if a.fails("kills") && r.GetKnown() < math.MaxUint64 {
		return &agentproto.AwaitOOMResponse{Kills: math.MaxUint64}, nil
	}
	p, err := a.process(r.GetContainerId(), "")
	if err != nil {
		return nil, err
	}
	select {
	case <-p.ended:
		return &agentproto.AwaitOOMResponse{Kills: r.GetKnown(), Ended: true}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *fakeAgent) CloseStdin(context.Context, *agentproto.CloseStdinRequest) (*agentproto.CloseStdinResponse, error) {
	return &agentproto.CloseStdinResponse{}, nil
}

func (a *fakeAgent) Update(context.Context, *agentproto.UpdateRequest) (*agentproto.UpdateResponse, error) {
	return &agentproto.UpdateResponse{}, a.step("update")
}

func (a *fakeAgent) AwaitSize(ctx context.Context, _ *agentproto.AwaitSizeRequest) (*agentproto.AwaitSizeResponse, error) {
	if a.fails("keep") {
		return nil, a.hang(ctx)
	}
	return &agentproto.AwaitSizeResponse{}, nil
}

func (a *fakeAgent) AwaitMemory(ctx context.Context, r *agentproto.AwaitMemoryRequest) (*agentproto.AwaitMemoryResponse, error) {
	if a.fails("slow-memory") {
		return nil, a.hang(ctx)
	}
	if err := a.step("memory"); err != nil {
		return nil, err
	}
	return &agentproto.AwaitMemoryResponse{}, a.note(awaitedFile, r.GetMore()>>20)
}

// AdjustClock is called whenever this host's clock is set.
func (a *fakeAgent) AdjustClock(context.Context, *agentproto.AdjustClockRequest) (*agentproto.AdjustClockResponse, error) {
	return &agentproto.AdjustClockResponse{TimeNs: time.Now().UnixNano()}, nil
}

// note adds a line to a file, for the tests that look at it.
func (a *fakeAgent) note(file string, values ...any) error {
	f, err := a.dir.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, values...)
	return errors.Join(err, f.Close())
}
