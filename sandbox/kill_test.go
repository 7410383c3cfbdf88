package sandbox

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"runch/state"
	"runch/transport"

	"golang.org/x/sys/unix"
)

// process is one that lives until the test ends or it is killed. It is reaped then.
func process(t *testing.T) (*os.Process, state.Process) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	p, err := state.ProcessOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process, p
}

// vanishing is a running container whose guest closes the first connection: when it has
// received the call, without an answer, or with earlier, when it is to connect the caller
// to the agent. With ends, the container's shim ends, too.
func vanishing(t *testing.T, earlier, ends bool) *Runtime {
	t.Helper()
	shim, process := process(t)
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		if !earlier {
			_, _ = io.WriteString(conn, "OK 1\n")
			_, _ = in.Peek(1) // the call is here
		}
		if ends {
			_ = shim.Kill()
		}
	}()
	store := state.NewStore(t.TempDir())
	dir, err := store.New(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	sandbox, err := store.NewSandbox(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close()
	c := &state.Container{ID: "c", Sandbox: "c", Shim: process, Ready: true, Started: true}
	s := &state.Sandbox{ID: "c", Owner: "c", Holder: process, Endpoint: transport.Endpoint{Unix: socket}}
	if err := errors.Join(dir.Save(c), sandbox.Save(s)); err != nil {
		t.Fatal(err)
	}
	return &Runtime{Store: store, Log: slog.New(slog.DiscardHandler)}
}

func TestKillOfAContainerThatEndsMeanwhileSucceeds(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		r := vanishing(t, false, true)
		if err := r.Kill(t.Context(), "c", sig, false); err != nil {
			t.Errorf("kill %v: %v", sig, err)
		}
		// For a container that had ended before, it fails.
		if err := r.Kill(t.Context(), "c", sig, false); !errors.Is(err, state.ErrNotRunning) {
			t.Errorf("kill %v of a stopped container: %v", sig, err)
		}
	}
}

func TestKillOfAContainerThatEndsBeforeTheGuestIsAskedSaysSo(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		if err := vanishing(t, true, true).Kill(t.Context(), "c", sig, false); !errors.Is(err, state.ErrNotRunning) {
			t.Errorf("kill %v: %v", sig, err)
		}
	}
}

func TestKillThatTheGuestDoesNotAnswerFails(t *testing.T) {
	for _, earlier := range []bool{false, true} {
		if err := vanishing(t, earlier, false).Kill(t.Context(), "c", unix.SIGTERM, false); err == nil || errors.Is(err, state.ErrNotRunning) {
			t.Errorf("kill: %v", err)
		}
	}
}
