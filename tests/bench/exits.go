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
	// tracingInstance is an instance of the kernel's tracing that only the bench uses.
	tracingInstance = "/sys/kernel/tracing/instances/runch-bench"

	// exitHistogram counts exits by the thread that runs the guest. It leaves out those that each tick of the guest's
	// clock causes, as the number of ticks depends on how fast the machine is: a host interrupt, the window for a guest
	// interrupt, and the write to the MSR that sets the timer. The numbers are AMD's (isa 2; tests/lab/host.bats has
	// them too) and Intel's (isa 1).
	exitHistogram = "hist:keys=common_pid if " +
		"(isa == 2 && exit_reason != 96 && exit_reason != 100 && exit_reason != 124) || " +
		"(isa == 1 && exit_reason != 1 && exit_reason != 7 && exit_reason != 32 && exit_reason != 52)"
)

// exitCounter counts how often KVM leaves the guests, except for their clocks. A nil counter counts nothing.
type exitCounter struct {
	histogram string
}

// countExits starts counting. It returns nil if the host has no KVM or does not allow tracing it.
func countExits() (*exitCounter, error) {
	_ = os.Remove(tracingInstance) // left by a bench that was killed
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

// of returns the number of exits so far of the VM of the VMM with this pid, 0 if exits are not counted.
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

// keepExits adds a sample: the exits of a container's VM until the container's first output.
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
