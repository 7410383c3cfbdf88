package hypervisor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProbeKVM: the probe returns within its time on every host, and any error wraps
// ErrNoKVM.
func TestProbeKVM(t *testing.T) {
	begin := time.Now()
	err := ProbeKVM()
	t.Logf("%v after %v", err, time.Since(begin))
	if err != nil && !errors.Is(err, ErrNoKVM) {
		t.Errorf("%v is no ErrNoKVM", err)
	}
	if took := time.Since(begin); took > probeWall+time.Second {
		t.Errorf("the probe took %v", took)
	}
}

// TestRemedies: only errors that wrap ErrNoKVM get advice.
func TestRemedies(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: open: %w", ErrNoKVM, unix.EACCES), "adduser USER kvm"},
		{fmt.Errorf("%w: open: %w", ErrNoKVM, unix.ENOENT), "modprobe kvm_"},
		{fmt.Errorf("%w: open: %w", ErrNoKVM, unix.EBUSY), ""},
		{fmt.Errorf("qemu: %w: %w", ErrNotFound, unix.ENOENT), ""},
	} {
		got := withRemedy(tc.err)
		if !errors.Is(got, tc.err) {
			t.Errorf("%v has become %v", tc.err, got)
		}
		if added := strings.TrimPrefix(got.Error(), tc.err.Error()); !strings.Contains(added, tc.want) || (tc.want == "") != (added == "") {
			t.Errorf("%v: %q is added, want %q", tc.err, added, tc.want)
		}
	}
}
