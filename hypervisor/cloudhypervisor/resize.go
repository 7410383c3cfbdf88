package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"runch/hypervisor"
	"runch/state"
)

// errReleasePending says that the guest has yet to release CPUs: the VMM changes the
// number of CPUs only after that.
var errReleasePending = errors.New("the guest has not yet released the CPUs that it is to have no longer")

// releasePoll is the time between two tries of what is refused for errReleasePending: no
// event tells of a CPU's release.
const releasePoll = 20 * time.Millisecond

// Resize changes the number of CPUs and the memory. Where more CPUs are to come and the
// guest has yet to release others since an earlier call, it waits for that.
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
	// The VMM compares a request with the number of CPUs that the guest still has. It
	// accepts that same number though the guest is about to release some of them, and
	// adds none. A request for the number that was asked for last changes nothing, and is
	// refused until the guest has released them: so it tells when that is done.
	if last := info.Config.CPUs.Boot; size.CPUs > last {
		if err := h.awaitRelease(ctx, last); err != nil {
			return err
		}
	}
	return h.api.put(ctx, "vm.resize", resizeRequest{VCPUs: size.CPUs, RAM: int64(size.MemoryMiB) << 20})
}

// awaitRelease asks for the last number of CPUs again for as long as the guest has others
// to release. When ctx ends before, the error wraps the refusal and its cause.
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

// checkMemory refuses a size out of bounds: a VMM without hot-plug memory accepts
// every size, and does nothing.
func checkMemory(m memoryConfig, mib int) error {
	if want := int64(mib) << 20; want < m.Size || want > m.Size+m.HotplugSize {
		return &hypervisor.RefusedError{VMM: vmmName, Request: "vm.resize", Reasons: []string{
			fmt.Sprintf("%d MiB are not between %d and %d", mib, m.Size>>20, (m.Size+m.HotplugSize)>>20),
		}}
	}
	return nil
}
