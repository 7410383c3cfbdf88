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
	// virtioMem is the modalias of a virtio-mem device, which adds memory.
	virtioMem = "virtio:d00000018v00001AF4"
	// virtioBalloon is the modalias of a memory balloon.
	virtioBalloon = "virtio:d00000005v00001AF4"
	// cpuDir has a directory for each CPU that is there.
	cpuDir = "/sys/devices/system/cpu"
	// maxCPUs is more than any VMM gives.
	maxCPUs = 1024
)

// takeCPUs brings CPUs online that came after the boot. cpus is how many the VM has by now.
func takeCPUs(ctx context.Context, cpus int) error {
	if cpus > maxCPUs {
		return invalidf("cpus: %d is more than %d", cpus, maxCPUs)
	}
	for cpu := 1; cpu < cpus; cpu++ { // the first is always online
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

// reportFreeMemory loads, once, the driver by which the kernel tells the VMM of memory
// that it no longer uses, so that the host gets it back. It is called when a container
// has started: before that nothing frees memory. It does not wait for the driver.
func (a *Agent) reportFreeMemory() {
	a.reporting.Do(func() {
		go func() {
			if err := loadDriver(virtioBalloon); err != nil {
				a.log.Debug("report free memory", "error", err)
			}
		}()
	})
}

// AwaitSize waits until the kernel has given back the CPUs and the memory that the
// VM is to lose.
func (a *Agent) AwaitSize(ctx context.Context, req *agentproto.AwaitSizeRequest) (*agentproto.AwaitSizeResponse, error) {
	const pause = 50 * time.Millisecond
	err := poll(ctx, pause, func() (bool, error) {
		cpus, err := filepath.Glob(filepath.Join(cpuDir, "cpu[0-9]*"))
		if err != nil {
			return false, err
		}
		memory, err := totalMemory()
		return len(cpus) <= int(req.GetCpus()) && memory <= req.GetMemoryBytes(), err
	})
	if err != nil {
		return nil, fmt.Errorf("give back CPUs and memory: %w", err)
	}
	return &agentproto.AwaitSizeResponse{}, nil
}

// AwaitMemory makes the guest use memory that came after the boot, and waits for it.
func (a *Agent) AwaitMemory(ctx context.Context, req *agentproto.AwaitMemoryRequest) (*agentproto.AwaitMemoryResponse, error) {
	err := loadDriver(virtioMem)
	if err == nil {
		err = awaitMemory(ctx, a.bootMemory, req.GetMore(), totalMemory)
	}
	if err != nil {
		return nil, fmt.Errorf("use more memory: %w", err)
	}
	return &agentproto.AwaitMemoryResponse{}, nil
}

// errMemoryStalls says that the kernel has no room for the page descriptors of more memory,
// 64 bytes for each 4096. The kernel tries again, but only now and then.
var errMemoryStalls = errors.New("the guest's kernel takes no more: it has too little left to manage it with")

// awaitMemory waits until total is at least boot+more, all in bytes. It gives
// errMemoryStalls when nothing has come for ten seconds.
func awaitMemory(ctx context.Context, boot, more uint64, total func() (uint64, error)) error {
	const pause, patience = 5 * time.Millisecond, 10 * time.Second
	last, since := uint64(0), time.Now()
	return poll(ctx, pause, func() (bool, error) {
		now, err := total()
		switch {
		case err != nil || now >= boot+more:
			return err == nil, err
		case now != last:
			last, since = now, time.Now()
		case time.Since(since) >= patience:
			const mib = 1 << 20
			return false, fmt.Errorf("%d MiB have come of %d: %w", (max(now, boot)-boot)/mib, more/mib, errMemoryStalls)
		}
		return false, nil
	})
}

// poll calls done, with a pause in between, until it reports true or fails, or ctx ends.
// The kernel announces neither a part of a memory block that comes or goes, nor a CPU
// that has gone.
func poll(ctx context.Context, pause time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
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
