package sandbox

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"runch/shimproto"
	"runch/state"
	"runch/transport"
	"runch/unixsocket"
)

// A holder that is killed closes its sockets, and ends some time later.
func TestDeleteOfAMemberWhoseHolderEndsMeanwhile(t *testing.T) {
	for _, ends := range []bool{true, false} {
		r, kill := holderThatHangsUp(t)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if ends {
			ctx = t.Context()
			time.AfterFunc(20*time.Millisecond, kill)
		}
		err := r.Delete(ctx, "c", true)
		if ends && err != nil {
			t.Errorf("the holder has ended: %v", err)
		}
		if !ends && !errors.Is(err, shimproto.ErrHolderGone) {
			t.Errorf("the holder lives on: %v", err)
		}
	}
}

// holderThatHangsUp is a pod with the member "c", which has ended, and a holder that
// takes requests and closes the connection, and lives until it is killed.
func holderThatHangsUp(t *testing.T) (r *Runtime, kill func()) {
	t.Helper()
	holder, holderProcess := process(t)
	store := state.NewStore(t.TempDir())
	dir, err := store.New(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	sandbox, err := store.NewSandbox(t.Context(), "pod")
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close()
	l, err := unixsocket.ListenPacket(filepath.Join(sandbox.Path(), shimproto.HolderSocket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	}()
	c := &state.Container{ID: "c", Sandbox: "pod", Share: "s", Ready: true, Started: true}
	s := &state.Sandbox{ID: "pod", Owner: "pod", Holder: holderProcess, Endpoint: transport.Endpoint{Unix: "x"}, Members: map[string]state.Member{"c": {}, "pod": {}}}
	if err := errors.Join(dir.Save(c), sandbox.Save(s)); err != nil {
		t.Fatal(err)
	}
	return &Runtime{Store: store, Log: slog.New(slog.DiscardHandler)}, func() { _ = holder.Kill() }
}
