package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// Info says what the guest is and what it uses.
func (a *Agent) Info(context.Context, *agentproto.InfoRequest) (*agentproto.InfoResponse, error) {
	memory, err := meminfo()
	if err != nil {
		return nil, err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("read the agent's memory: %w", err)
	}
	return &agentproto.InfoResponse{
		KernelRelease:        kernelRelease(),
		MemoryTotalBytes:     kilobytes(memory, memTotal),
		MemoryAvailableBytes: kilobytes(memory, "MemAvailable:"),
		AgentRssBytes:        kilobytes(string(status), "VmRSS:"),
		Timeline:             a.timeline.snapshot(),
		Calls:                a.calls.Load(),
	}, nil
}

// memTotal is the line of meminfo that has all the memory of the guest.
const memTotal = "MemTotal:"

// meminfo is what the kernel says of the guest's memory.
func meminfo() (string, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "", fmt.Errorf("read the guest's memory: %w", err)
	}
	return string(text), nil
}

// totalMemory is all memory that the guest's kernel gives out, in bytes.
func totalMemory() (uint64, error) {
	text, err := meminfo()
	return kilobytes(text, memTotal), err
}

// kilobytes finds a line like "MemTotal:  1234 kB" and gives bytes, 0 if there is none.
func kilobytes(text, key string) uint64 {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, key)
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0
		}
		n, err := strconv.ParseUint(fields[0], 10, 54)
		if err != nil {
			return 0
		}
		return n << 10
	}
	return 0
}

// syncTimeout bounds the final sync(2), which would wait for ever for a share
// whose virtiofsd is gone.
const syncTimeout = 5 * time.Second

// powerOff turns the VM off by ACPI; a reset would start it again under some VMMs.
func powerOff() error {
	synced := make(chan struct{})
	go func() {
		unix.Sync()
		close(synced)
	}()
	select {
	case <-synced:
	case <-time.After(syncTimeout):
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	return errors.New("power off: the VM is still there")
}
