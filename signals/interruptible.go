package signals

import (
	"context"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"
)

// Interruptible gives a context that SIGTERM and SIGINT cancel, until stop is called.
// Those that the caller has set to be ignored stay ignored, as nohup(1) needs it.
func Interruptible(ctx context.Context) (interruptible context.Context, stop context.CancelFunc) {
	interrupts := slices.DeleteFunc([]os.Signal{unix.SIGTERM, unix.SIGINT}, signal.Ignored)
	if len(interrupts) == 0 {
		return context.WithCancel(ctx) // NotifyContext would take none for all
	}
	return signal.NotifyContext(ctx, interrupts...)
}
