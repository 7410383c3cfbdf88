package namespace

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// allowedCPUs is what a child of the calling thread may run on, as the kernel lists it.
func allowedCPUs(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "grep", "Cpus_allowed_list", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A child may run on all CPUs though its parent's thread is bound to one, and the
// thread is bound to that one again afterwards.
func TestOnAllCPUs(t *testing.T) {
	Do(func() bool {
		var all, one, after unix.CPUSet
		for cpu := range maxCPUs {
			all.Set(cpu)
		}
		if err := errors.Join(unix.SchedSetaffinity(0, &all), unix.SchedGetaffinity(0, &all)); err != nil {
			t.Error(err)
			return false
		}
		everywhere := allowedCPUs(t)
		for cpu := range maxCPUs {
			if all.IsSet(cpu) {
				one.Set(cpu)
				break
			}
		}
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Error(err)
			return false
		}
		var inside string
		failure := errors.New("start failed")
		err := OnAllCPUs(func() error { inside = allowedCPUs(t); return failure })
		if !errors.Is(err, failure) {
			t.Errorf("error %v, want start's", err)
		}
		if inside != everywhere {
			t.Errorf("the child of a bound thread has %q, want %q", inside, everywhere)
		}
		if err := unix.SchedGetaffinity(0, &after); err != nil || after != one {
			t.Errorf("the thread has %d CPUs afterwards (%v), want the one from before", after.Count(), err)
		}
		return false
	})
}
