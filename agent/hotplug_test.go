package agent

import (
	"context"
	"errors"
	"math"
	"testing"
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
