package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"runch/hypervisor"
	"runch/state"
)

// errReleasePending says that the guest has not yet released CPUs that were removed. The VMM
// refuses to change the number of CPUs before that.
var errReleasePending = errors.New("the guest has not yet released the CPUs that it is to have no longer")

// releasePoll is the time between two tries while the VMM refuses with errReleasePending:
// there is no event for the release of a CPU.
const releasePoll = 20 * time.Millisecond

// Resize changes the number of CPUs and the memory. Before it adds CPUs, it waits until the
// guest has released those that an earlier call removed.
func (h *Handle) Resize(ctx context.Context, size state.VMSize) error {
	var info infoResponse
	if err := h.api.get(ctx, "vm.info", &info); err != nil {
		return err
	}
	if size.MemoryMiB != 0 {
		if err := checkMemory(info.Config.Memory, size.MemoryMiB); err != nil {
			return err
		}
	}
	// The VMM compares the requested number with the CPUs that the guest still has. If they
	// are equal, it accepts the request and adds none, even if the guest is about to
	// release some. So first repeat the request for the last number, which changes nothing:
	// the VMM refuses it until the guest has released all that it has to.
	if last := info.Config.CPUs.Boot; size.CPUs > last {
		if err := h.awaitRelease(ctx, last); err != nil {
			return err
		}
	}
	return h.api.put(ctx, "vm.resize", resizeRequest{VCPUs: size.CPUs, RAM: int64(size.MemoryMiB) << 20})
}

// awaitRelease requests the last number of CPUs until the VMM no longer refuses it with
// errReleasePending. If ctx ends first, the error wraps the refusal and ctx's cause.
func (h *Handle) awaitRelease(ctx context.Context, last int) error {
	var pending error
	for {
		err := h.api.put(ctx, "vm.resize", resizeRequest{VCPUs: last})
		switch {
		case errors.Is(err, errReleasePending):
			pending = err
		case err == nil || pending == nil || ctx.Err() == nil:
			return err
		}
		select {
		case <-time.After(releasePoll):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", pending, context.Cause(ctx))
		}
	}
}

// checkMemory refuses a size out of bounds. A VMM without hot-plug memory would accept every
// size and do nothing.
func checkMemory(m memoryConfig, mib int) error {
	if want := int64(mib) << 20; want < m.Size || want > m.Size+m.HotplugSize {
		return &hypervisor.RefusedError{VMM: vmmName, Request: "vm.resize", Reasons: []string{
			fmt.Sprintf("%d MiB are not between %d and %d", mib, m.Size>>20, (m.Size+m.HotplugSize)>>20),
		}}
	}
	return nil
}
