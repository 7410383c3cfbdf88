package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"runch/agentproto"
)

const (
	// virtioMem is how a device that adds memory asks for its driver.
	virtioMem = "virtio:d00000018v00001AF4"
	// virtioBalloon is how a memory balloon asks for its driver.
	virtioBalloon = "virtio:d00000005v00001AF4"
	// autoOnline says whether memory that comes later is used at once.
	autoOnline = "/sys/devices/system/memory/auto_online_blocks"
	// cpuDir has a directory for each CPU that is there.
	cpuDir = "/sys/devices/system/cpu"
	// maxCPUs is more than any VMM gives.
	maxCPUs = 1024
)

// takeHardware makes the guest use memory and CPUs that came after the boot: the
// memory whenever it comes, and as many CPUs as the VM has by now.
func takeHardware(ctx context.Context, cpus int) error {
	if cpus > maxCPUs {
		return invalidf("cpus: %d is more than %d", cpus, maxCPUs)
	}
	if err := writeTunable(autoOnline, "online"); err != nil {
		return fmt.Errorf("use new memory: %w", err)
	}
	// A driver that is part of the kernel is no module of the image.
	if err := Modprobe(virtioMem); err != nil && !errors.Is(err, errNoModule) {
		return err
	}
	for cpu := 1; cpu < cpus; cpu++ { // the first cannot go
		online := filepath.Join(cpuDir, "cpu"+strconv.Itoa(cpu), "online")
		err := awaitDevice(ctx, func() (bool, error) {
			_, err := os.Stat(online)
			return err == nil, nil
		})
		if err == nil {
			err = bringOnline(online)
		}
		if err != nil {
			return fmt.Errorf("use CPU %d: %w", cpu, err)
		}
	}
	return nil
}

// reportFreeMemory has the kernel tell the VMM of memory that it does not use any more,
// so that it is the host's again. For as long as no container runs nobody frees any, and
// who starts one need not wait for the driver.
func (a *Agent) reportFreeMemory() {
	a.reporting.Do(func() {
		go func() {
			if err := Modprobe(virtioBalloon); err != nil && !errors.Is(err, errNoModule) {
				a.log.Debug("report free memory", "error", err)
			}
		}()
	})
}

// AwaitSize waits for the kernel to give back CPUs and memory that the VM is to
// have no longer. Of memory it gives back parts of blocks, which it tells nobody.
func (a *Agent) AwaitSize(ctx context.Context, req *agentproto.AwaitSizeRequest) (*agentproto.AwaitSizeResponse, error) {
	const pause = 50 * time.Millisecond
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		cpus, err := filepath.Glob(filepath.Join(cpuDir, "cpu[0-9]*"))
		if err != nil {
			return nil, err
		}
		memory, err := meminfo()
		if err != nil {
			return nil, err
		}
		if len(cpus) <= int(req.GetCpus()) && kilobytes(memory, memTotal) <= req.GetMemoryBytes() {
			return &agentproto.AwaitSizeResponse{}, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("give back CPUs and memory: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

func bringOnline(file string) error {
	now, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(now)) == "1" {
		return nil
	}
	return os.WriteFile(file, []byte("1"), 0)
}
