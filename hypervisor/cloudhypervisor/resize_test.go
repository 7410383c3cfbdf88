package cloudhypervisor

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"runch/hypervisor"
	"runch/state"
)

// TestResizeAwaitsRelease: CPUs can be added right after others were removed, once the guest
// has released those. Until then removing more is refused, without a wait.
func TestResizeAwaitsRelease(t *testing.T) {
	r, h := booted(t, fakeOptions{Keeps: 3})
	resizeTo(t, h, 3, 2)
	if err := h.Resize(bounded(t), state.VMSize{CPUs: 1}); !errors.Is(err, errReleasePending) {
		t.Errorf("Resize to fewer CPUs: %v", err)
	}
	resizeTo(t, h, 3)
	var info infoResponse
	if err := r.api.get(bounded(t), "vm.info", &info); err != nil || info.Config.CPUs.Boot != 3 {
		t.Errorf("the VM is to have %d CPUs, want 3; %v", info.Config.CPUs.Boot, err)
	}
	r.requests()
}

// TestResizeGivesUp: if the guest never releases its CPUs, Resize fails when the context ends,
// and the error says why.
func TestResizeGivesUp(t *testing.T) {
	r, h := booted(t, fakeOptions{Keeps: math.MaxInt})
	resizeTo(t, h, 3, 1)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(bounded(t))
	defer cancel(nil)
	before := len(r.requests())
	done := make(chan error, 1)
	go func() { done <- h.Resize(ctx, state.VMSize{CPUs: 3}) }()
	// Three requests: vm.info, the refused one, and its repetition.
	for len(r.requests()) < before+3 && ctx.Err() == nil {
		<-time.After(releasePoll)
	}
	cancel(cause)
	err := <-done
	var refused *hypervisor.RefusedError
	if !errors.Is(err, cause) || !errors.Is(err, errReleasePending) || !errors.As(err, &refused) {
		t.Errorf("Resize: %v, want the context's cause and the refusal", err)
	}
}

func resizeTo(t *testing.T, h hypervisor.Resizer, sizes ...int) {
	t.Helper()
	for _, n := range sizes {
		if err := h.Resize(bounded(t), state.VMSize{CPUs: n}); err != nil {
			t.Fatalf("Resize to %d CPUs: %v", n, err)
		}
	}
}
