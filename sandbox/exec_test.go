package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"runch/agentproto"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The guest has neither the host's SELinux policy nor its AppArmor profiles:
// an exec in a container that has them is the same there as one that has not.
func TestExecLeavesTheHostsLabelsOnTheHost(t *testing.T) {
	r := &Runtime{Store: state.NewStore(t.TempDir())}
	dir, err := r.Store.New("c")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close() //nolint:errcheck // only the lock
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
