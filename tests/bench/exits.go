package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

const (
	// tracingInstance is a part of the kernel's tracing that nobody else uses.
	tracingInstance = "/sys/kernel/tracing/instances/runch-bench"

	// exitHistogram counts exits by the thread that runs the guest, without what comes with each tick of its clock: an
	// interrupt of the host's, the window for one of the guest's, and the write to the register that sets the timer. The
	// number of ticks depends on how fast the machine is. The numbers are AMD's (isa 2; tests/lab/host.bats has them too) and
	// Intel's (isa 1).
	exitHistogram = "hist:keys=common_pid if " +
		"(isa == 2 && exit_reason != 96 && exit_reason != 100 && exit_reason != 124) || " +
		"(isa == 1 && exit_reason != 1 && exit_reason != 7 && exit_reason != 32 && exit_reason != 52)"
)

// exitCounter counts how often KVM leaves the guests, but for their clocks. nil counts nothing.
type exitCounter struct {
	histogram string
}

// countExits starts counting. The counter is nil where there is no KVM, or no tracing of it.
func countExits() (*exitCounter, error) {
	_ = os.Remove(tracingInstance) // of a bench that was killed
	err := os.Mkdir(tracingInstance, 0o700)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	event := filepath.Join(tracingInstance, "events/kvm/kvm_exit")
	err = os.WriteFile(filepath.Join(event, "trigger"), []byte(exitHistogram), 0)
	if err == nil {
		return &exitCounter{histogram: filepath.Join(event, "hist")}, nil
	}
	removed := os.Remove(tracingInstance)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, removed // KVM's module is not there
	}
	return nil, errors.Join(fmt.Errorf("count the exits of VMs: %w", err), removed)
}

// close stops counting.
func (c *exitCounter) close() error {
	if c == nil {
		return nil
	}
	return os.Remove(tracingInstance)
}

var histogramEntry = regexp.MustCompile(`(?m)^\{ common_pid: +(\d+) +\} hitcount: +(\d+)$`)

// of gives the exits of the VMM with this pid until now, 0 where they are not counted.
func (c *exitCounter) of(pid int) (float64, error) {
	if c == nil {
		return 0, nil
	}
	text, err := os.ReadFile(c.histogram)
	if err != nil {
		return 0, err
	}
	var count float64
	for _, entry := range histogramEntry.FindAllSubmatch(text, -1) {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%s", pid, entry[1])); err != nil {
			continue // another VMM's
		}
		n, err := strconv.ParseFloat(string(entry[2]), 64)
		if err != nil {
			return 0, err
		}
		count += n
	}
	return count, nil
}

// keepExits keeps the exits of a container's VM until the container's first output.
func (b *bench) keepExits(r *runtime) error {
	if r.bare == nil {
		return nil
	}
	s, err := r.sandbox()
	if err != nil {
		return err
	}
	n, err := b.exits.of(s.vmm.pid)
	if n > 0 {
		b.samples.number(firstByte, exits, r.name, n)
	}
	return err
}
