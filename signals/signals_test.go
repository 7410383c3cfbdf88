package signals

import (
	"os"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// send sends this process a signal that the test catches or ignores.
func send(t *testing.T, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(os.Getpid(), sig); err != nil {
		t.Fatal(err)
	}
}

func TestInterruptible(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
		ctx, stop := Interruptible(t.Context())
		send(t, sig)
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
			t.Errorf("%v cancels nothing", sig)
		}
		stop()
	}
}

// A process that ignores both SIGTERM and SIGINT is not interrupted by any other signal.
func TestInterruptibleLeavesOutWhatIsIgnored(t *testing.T) {
	signal.Ignore(unix.SIGTERM, unix.SIGINT)
	defer signal.Reset(unix.SIGTERM, unix.SIGINT)
	ctx, stop := Interruptible(t.Context())
	defer stop()
	other := make(chan os.Signal, 1)
	signal.Notify(other, unix.SIGUSR1)
	defer signal.Stop(other)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGUSR1} {
		send(t, sig)
	}
	<-other
	select {
	case <-ctx.Done():
		t.Error("an ignored signal, or another one, cancels")
	case <-time.After(100 * time.Millisecond): // ctx would be cancelled at once
	}
}

func TestCatchUntilItIsStopped(t *testing.T) {
	caught, stop := Catch()
	send(t, unix.SIGTERM)
	select {
	case sig := <-caught:
		if sig != unix.SIGTERM {
			t.Errorf("caught %v", sig)
		}
	case <-time.After(time.Minute):
		t.Error("caught nothing")
	}
	own := make(chan os.Signal, 1)
	signal.Notify(own, unix.SIGTERM)
	defer signal.Stop(own)
	stop()
	send(t, unix.SIGTERM)
	<-own
	if len(caught) > 0 {
		t.Error("caught after the stop")
	}
}
