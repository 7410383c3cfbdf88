package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"runch/shimproto"
)

// errNoServer says that virtiofsd, which serves files to the guest, has ended.
var errNoServer = errors.New("virtiofsd has ended")

// serverEnd is how long virtiofsd may live on after the VMM, its one client.
const serverEnd = 2 * time.Second

// start boots the VM, unless virtiofsd ends first: a VMM may wait long for one
// that does not answer.
func (h *holder) start(ctx context.Context) error {
	ctx, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	go func() {
		select {
		case <-h.server.Done():
		case <-ctx.Done():
			return
		}
		// virtiofsd also ends when the VMM does, and then the VMM's own error says more.
		select {
		case <-time.After(serverEnd):
			abandon(errNoServer)
		case <-ctx.Done():
		}
	}()
	return h.vm.Boot(ctx)
}

// orServer adds virtiofsd's error to that of a VMM that did not start: when virtiofsd
// failed first, the VMM's own error does not say so.
func (h *holder) orServer(err error) error {
	select {
	case <-h.server.Done():
		if reason := h.server.Err(); reason != nil {
			return fmt.Errorf("virtiofsd ended: %w (and %w)", reason, err)
		}
	case <-time.After(serverEnd):
	}
	return err
}

// watch closes vmGone when the VMM has ended, and lost when either it or virtiofsd has.
func (h *holder) watch() {
	go func() {
		_ = h.vm.Wait()
		close(h.vmGone)
	}()
	select {
	case <-h.vmGone:
	case <-h.server.Done():
	}
	close(h.lost)
}

// ofVM is an error whose cause is the VM or its guest.
func ofVM(what string, err error) error {
	return &shimproto.VMError{Err: fmt.Errorf("%s: %w", what, err)}
}

// orLost is err, the error of a call to the guest, or, if the VM has ended, why it has.
func (h *holder) orLost(what string, err error) error {
	select {
	case <-h.lost:
		return ofVM(what, h.lostReason())
	default:
		return err
	}
}

// lostReason says whether the VMM or virtiofsd has ended. When the VMM ends, virtiofsd
// exits at once and with success: then the VMM's end is the reason.
func (h *holder) lostReason() error {
	select {
	case <-h.server.Done():
		if err := h.server.Err(); err != nil {
			return fmt.Errorf("virtiofsd ended: %w", err)
		}
	default:
	}
	select {
	case <-h.vmGone:
		return fmt.Errorf("the VM ended: %w", orClean(h.vm.Wait()))
	case <-time.After(serverEnd):
		return fmt.Errorf("virtiofsd ended: %w", orClean(nil))
	}
}

func orClean(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// newLostNote makes the note, which is empty for as long as all is well.
func newLostNote(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, shimproto.LostNote), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the sandbox's note: %w", err)
	}
	return f, nil
}

// leaveNote writes why the container's end is not known: the end of its VM, or
// else what the shim met.
func (h *holder) leaveNote(met error) {
	reason := met
	select {
	case <-h.lost:
		reason = h.lostReason()
	case <-time.After(shimproto.LostGrace):
	}
	_, _ = io.WriteString(h.note, reason.Error()) // there is nobody to tell
}
