package shim

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"runch/agentproto"
)

// silence is a guest that does not answer.
type silence struct{}

func (silence) Dial(ctx context.Context, _ uint32) (net.Conn, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// A guest may boot and make processes slowly, but one that takes no connection is given up soon.
func TestConnectGivesASilentGuestUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, _, err := connectInTime(t.Context(), silence{}, Files{})
		if !errors.Is(err, agentproto.ErrUnreachable) {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(began); took != answerTimeout {
			t.Errorf("given up after %s", took)
		}
	})
}

// busy is an agent that never finishes an Exec, and answers Info only if it is alive.
type busy struct {
	agentproto.AgentService
	alive bool
}

func (busy) Exec(ctx context.Context, _ *agentproto.ExecRequest) (*agentproto.ExecResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (b busy) Info(ctx context.Context, _ *agentproto.InfoRequest) (*agentproto.InfoResponse, error) {
	if !b.alive {
		<-ctx.Done()
	}
	return &agentproto.InfoResponse{}, ctx.Err()
}

func TestExecWaitsAsLongAsTheGuestLives(t *testing.T) {
	for _, c := range []struct {
		alive bool
		want  time.Duration
	}{{true, time.Hour}, {false, answerTimeout + aliveTimeout}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			err := execWhileAlive(ctx, busy{alive: c.alive}, nil)
			if !errors.Is(err, agentproto.ErrUnreachable) {
				t.Errorf("alive %t: the error is %v", c.alive, err)
			}
			if took := time.Since(began); took != c.want {
				t.Errorf("alive %t: given up after %s, not %s", c.alive, took, c.want)
			}
		})
	}
}
