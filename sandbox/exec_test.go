package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"runch/agentproto"
	"runch/config"
	"runch/shim"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The guest has neither the host's SELinux policy nor its AppArmor profiles:
// an exec in a container that has them is the same there as one that has not.
func TestExecLeavesTheHostsLabelsOnTheHost(t *testing.T) {
	r := &Runtime{Store: state.NewStore(t.TempDir()), Config: &config.Config{BootTimeout: time.Minute}}
	dir, err := r.Store.New("c")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	c := &state.Container{ID: "c", Sandbox: "c", Created: time.Now()}
	if err := dir.SaveSandbox(&state.Sandbox{ID: "c"}); err != nil {
		t.Fatal(err)
	}
	o, err := r.execOrders(c, ExecOptions{ID: "c", Process: &specs.Process{
		Args: []string{"true"}, Cwd: "/", SelinuxLabel: "a:b:c", ApparmorProfile: "containers-default",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Minute + callTimeout; o.Timeout != want {
		t.Errorf("an exec may take %s, want %s", o.Timeout, want)
	}
	var p specs.Process
	if err := json.Unmarshal(o.Exec.Process, &p); err != nil {
		t.Fatal(err)
	}
	if p.ApparmorProfile != "" || p.SelinuxLabel != "" || p.Args[0] != "true" {
		t.Errorf("the guest's process %+v", p)
	}
}

// A container may end while an exec is made in it, and is seen to have a moment
// after its guest stopped to answer.
func TestExecInAContainerThatEndsMeanwhile(t *testing.T) {
	shim := exec.CommandContext(t.Context(), "sleep", "100")
	if err := shim.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := state.ProcessOf(shim.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	c := &state.Container{ID: "c", Shim: p}
	answer := errors.New("no such program")
	silence := fmt.Errorf("make the process: %w", agentproto.ErrUnreachable)
	for _, err := range []error{answer, silence, errWordless} {
		if got := endedMeanwhile(t.Context(), c, err); !errors.Is(got, err) {
			t.Errorf("in a container that runs, %q became %q", err, got)
		}
	}
	ended := make(chan struct{})
	time.AfterFunc(lostGrace/10, func() {
		defer close(ended)
		_ = shim.Process.Kill()
		_ = shim.Wait() // killed
	})
	for _, err := range []error{silence, errWordless, answer} {
		if got := endedMeanwhile(t.Context(), c, err); !errors.Is(got, ErrExecStopped) {
			t.Errorf("in a container that ended meanwhile: %q", got)
		}
	}
	<-ended
}

// That a guest does not answer is known on the other side of the shim's channel.
func TestShimSaysThatItsGuestDoesNotAnswer(t *testing.T) {
	ours, f, err := newChannelPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.close()
	theirs, err := newChannel(f)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.close()
	p := &shimProcess{channel: ours}
	for _, sent := range []error{agentproto.ErrUnreachable, errors.New("no such program")} {
		if err := theirs.send(failed(sent)); err != nil {
			t.Fatal(err)
		}
		_, err := p.hear(t.Context())
		if err == nil || err.Error() != sent.Error() {
			t.Errorf("sent %q, heard %v", sent, err)
		}
		if errors.Is(err, agentproto.ErrUnreachable) != errors.Is(sent, agentproto.ErrUnreachable) {
			t.Errorf("%q is not the error that it was", err)
		}
	}
}

// silence is a guest that answers to nothing.
type silence struct{}

func (silence) Dial(ctx context.Context, _ uint32) (net.Conn, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// However slowly a guest boots and makes processes: one that does not even take a connection is given up soon.
func TestConnectGivesASilentGuestUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, _, err := connectInTime(t.Context(), silence{}, shim.Files{})
		if !errors.Is(err, agentproto.ErrUnreachable) {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(began); took != callTimeout {
			t.Errorf("given up after %s", took)
		}
	})
}

// busy is an agent that never has a process made, and says that it lives or does not.
type busy struct {
	agentproto.AgentService
	alive bool
}

func (busy) Exec(ctx context.Context, _ *agentproto.ExecRequest) (*agentproto.ExecResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (b busy) Info(ctx context.Context, _ *agentproto.InfoRequest) (*agentproto.InfoResponse, error) {
	if !b.alive {
		<-ctx.Done()
	}
	return &agentproto.InfoResponse{}, ctx.Err()
}

func TestExecWaitsAsLongAsTheGuestLives(t *testing.T) {
	for _, c := range []struct {
		alive bool
		want  time.Duration
	}{{true, time.Hour}, {false, callTimeout + aliveTimeout}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			err := execWhileAlive(ctx, busy{alive: c.alive}, nil)
			if !errors.Is(err, agentproto.ErrUnreachable) {
				t.Errorf("alive %t: the error is %v", c.alive, err)
			}
			if took := time.Since(began); took != c.want {
				t.Errorf("alive %t: given up after %s, not %s", c.alive, took, c.want)
			}
		})
	}
}
