package agent

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"runch/agentproto"
)

func TestAwaitSize(t *testing.T) {
	for name, tt := range map[string]struct {
		cpus   uint32
		memory uint64
		want   error
	}{
		"as much as there is": {maxCPUs, math.MaxUint64, nil},
		"less memory":         {maxCPUs, 1, context.DeadlineExceeded},
		"fewer CPUs":          {0, math.MaxUint64, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := new(Agent).AwaitSize(ctx, &agentproto.AwaitSizeRequest{Cpus: tt.cpus, MemoryBytes: tt.memory})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// Memory comes a part at a time. The wait ends with an error when no more comes, and earlier
// if the caller's time is up.
func TestAwaitMemory(t *testing.T) {
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		came    []uint64 // in MiB, one after the other, each after eight seconds; the last stays
		timeout time.Duration
		want    error
	}{
		"it is there":      {[]uint64{1100}, time.Minute, nil},
		"a part at a time": {[]uint64{100, 228, 356, 612, 1100}, time.Minute, nil},
		"no more comes":    {[]uint64{100, 228}, time.Minute, errMemoryStalls},
		"time is up":       {[]uint64{100}, 5 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
				defer cancel()
				began := time.Now()
				err := awaitMemory(ctx, 100*mib, 1000*mib, func() (uint64, error) {
					n := min(int(time.Since(began)/(8*time.Second)), len(tt.came)-1)
					return tt.came[n] * mib, nil
				})
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}
