package hypervisor

import (
	"errors"
	"testing"
	"time"
)

// TestProbeKVM: the probe gives an answer within its time, whatever this host's
// KVM is, and the same one again.
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
	accel, resolveErr := ResolveAccel("")
	if resolveErr != nil || (accel == AccelKVM) != (err == nil) {
		t.Errorf("auto is %q, %v, after a probe that gave %v", accel, resolveErr, err)
	}
}
