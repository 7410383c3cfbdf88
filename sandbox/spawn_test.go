package sandbox

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"runch/shimproto"

	"golang.org/x/sys/unix"
)

// TestEndIsLeftToTheCaller has a shim that ends while its command still lives: the
// subreaper that inherits the command's children must get its exit status.
func TestEndIsLeftToTheCaller(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "exit 7")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitZombie(cmd.Process.Pid)
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil || status.ExitStatus() != 7 {
		t.Errorf("got %v, %v", status, err)
	}
	_ = cmd.Wait() // it says that it was reaped
}

// A shim that was killed may not be gone for a long time: this one is never seen to end.
func TestUndoDoesNotWaitForever(t *testing.T) {
	conn, theirs, err := shimproto.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	process, known := process(t)
	p := &shimProcess{process: process, conn: conn, ended: make(chan struct{})}
	undone := make(chan struct{})
	go func() {
		defer close(undone)
		p.undoWithin(10 * time.Millisecond)
	}()
	select {
	case <-undone:
	case <-time.After(time.Minute):
		t.Fatal("it waits on")
	}
	end(t, known) // it was killed all the same
}

// The shim that a killed process has made waits for its setup, and keeps the socket open.
func TestAShimWhoseMakerIsKilledIsNotWaitedFor(t *testing.T) {
	conn, theirs, err := shimproto.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	defer conn.Close()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "kill -KILL $$")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := nestedShim(cmd, conn); !errors.Is(err, errNoReport) {
		t.Errorf("got %v", err)
	}
}

// A setup may be larger than what the socket of a stopped shim takes.
func TestASetupThatNobodyReads(t *testing.T) {
	conn, theirs, err := shimproto.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = (&shimProcess{conn: conn}).send(ctx, &shimproto.Setup{ID: strings.Repeat("x", 8<<20)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
