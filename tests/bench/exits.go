package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// vmExits is how often KVM has left the guest of the VMM with this pid: its statistics in debugfs. Where those are not to be
// had, without KVM or debugfs, it is false.
func vmExits(pid int) (count float64, told bool, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/sys/kernel/debug/kvm/%d-*/exits", pid))
	if err != nil || len(files) != 1 {
		return 0, false, err
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return 0, false, err
	}
	count, err = strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	return count, err == nil, err
}

// lifeExits keeps the exits of a container's VM until its first word.
func (b *bench) lifeExits(r *runtime) error {
	if r.name != ours {
		return nil
	}
	s, err := r.sandbox()
	if err != nil {
		return err
	}
	n, told, err := vmExits(s.vmm.pid)
	if told {
		b.samples.number(firstByte, exits, ours, n)
	}
	return err
}
