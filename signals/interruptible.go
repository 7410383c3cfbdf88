package signals

import (
	"context"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"
)

// Interruptible gives a context that SIGTERM and SIGINT cancel, until stop is called.
// A signal that is ignored already stays ignored: a shell without job control starts
// background jobs with SIGINT ignored.
func Interruptible(ctx context.Context) (interruptible context.Context, stop context.CancelFunc) {
	interrupts := slices.DeleteFunc([]os.Signal{unix.SIGTERM, unix.SIGINT}, signal.Ignored)
	if len(interrupts) == 0 {
		return context.WithCancel(ctx) // NotifyContext without signals would catch all
	}
	return signal.NotifyContext(ctx, interrupts...)
}
