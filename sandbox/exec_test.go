package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"runch/agentproto"
	"runch/config"
	"runch/shimproto"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The guest has neither the host's SELinux policy nor its AppArmor profiles:
// an exec in a container that has them is the same there as one that has not.
func TestExecLeavesTheHostsLabelsOnTheHost(t *testing.T) {
	r := &Runtime{Store: state.NewStore(t.TempDir()), Config: &config.Config{BootTimeout: time.Minute}}
	dir, err := r.Store.New(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	sandbox, err := r.Store.NewSandbox(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close()
	c := &state.Container{ID: "c", Sandbox: "c", Created: time.Now()}
	if err := sandbox.Save(&state.Sandbox{ID: "c", BootTimeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	o, err := r.execSetup(c, ExecOptions{ID: "c", Process: &specs.Process{
		Args: []string{"true"}, Cwd: "/", SelinuxLabel: "a:b:c", ApparmorProfile: "containers-default",
	}})
	if err != nil {
		t.Fatal(err)
	}
	// exec may have another configuration than the one that the VM was made with.
	if want := time.Hour + callTimeout; o.Timeout != want {
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

// A container may end while an exec is made in it. Its shim ends a moment after its guest
// has stopped answering.
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
	for _, err := range []error{answer, silence, errNoReport} {
		if got := endedMeanwhile(t.Context(), c, err); !errors.Is(got, err) {
			t.Errorf("in a container that runs, %q became %q", err, got)
		}
	}
	ended := make(chan struct{})
	time.AfterFunc(shimproto.LostGrace/10, func() {
		defer close(ended)
		_ = shim.Process.Kill()
		_ = shim.Wait() // killed
	})
	for _, err := range []error{silence, errNoReport, answer} {
		if got := endedMeanwhile(t.Context(), c, err); !errors.Is(got, ErrExecStopped) {
			t.Errorf("in a container that ended meanwhile: %q", got)
		}
	}
	<-ended
}

// The command learns over the shim's socket whether the guest does not answer, and whether
// an error is the VM's.
func TestShimSaysWhoseFailureItIs(t *testing.T) {
	ours, f, err := shimproto.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := shimproto.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	p := &shimProcess{conn: ours}
	for sent, ofVM := range map[error]bool{
		agentproto.ErrUnreachable:     true,
		errors.New("no such program"): false,
		fmt.Errorf("boot: %w", &shimproto.VMError{Err: errors.New("the VM ended")}): true,
	} {
		if err := theirs.Send(shimproto.Failed(sent)); err != nil {
			t.Fatal(err)
		}
		_, err := p.receive(t.Context())
		if err == nil || err.Error() != sent.Error() {
			t.Errorf("sent %q, received %v", sent, err)
		}
		if errors.Is(err, agentproto.ErrUnreachable) != errors.Is(sent, agentproto.ErrUnreachable) {
			t.Errorf("%q is not the error that it was", err)
		}
		if got := new(shimproto.VMError); errors.As(err, &got) != ofVM {
			t.Errorf("%q is the VM's: %t, want %t", err, !ofVM, ofVM)
		}
	}
}

// A container whose shim is gone takes no process, nor does one that is being made.
func TestCheckExec(t *testing.T) {
	r := &Runtime{Store: state.NewStore(t.TempDir())}
	if _, err := r.CheckExec("none", false); !errors.Is(err, state.ErrNotExist) {
		t.Errorf("exec in no container: %v", err)
	}
	self, err := state.Self()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		id           string
		container    state.Container
		ignorePaused bool
		want         error
	}{
		{id: "stopped", want: ErrExecStopped},
		{id: "creating", container: state.Container{Creator: self}, want: ErrExecStopped},
		{id: "running", container: state.Container{Shim: self, Ready: true, Started: true}},
		{id: "paused", container: state.Container{Shim: self, Ready: true, Paused: true}, want: ErrExecPaused},
		{id: "ignored", container: state.Container{Shim: self, Ready: true, Paused: true}, ignorePaused: true},
	} {
		dir, err := r.Store.New(t.Context(), tc.id)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		tc.container.ID, tc.container.Created = tc.id, time.Now()
		if err := dir.Save(&tc.container); err != nil {
			t.Fatal(err)
		}
		s, err := r.CheckExec(tc.id, tc.ignorePaused)
		if !errors.Is(err, tc.want) {
			t.Errorf("exec in a container that is %s: %v, want %v", tc.id, err, tc.want)
		}
		if err == nil && s.ID != tc.id {
			t.Errorf("the state of %s is %+v", tc.id, s)
		}
	}
}
