package agent

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"runch/agentproto"
)

// fakeConfiguration counts what is done to it.
type fakeConfiguration struct {
	configuration
	mounts   int
	mountErr error
	applied  []string
	applyErr error
}

func newFakeConfiguration() *fakeConfiguration {
	f := &fakeConfiguration{}
	f.mountShare = func(context.Context) error {
		f.mounts++
		return f.mountErr
	}
	f.applyNetwork = func(_ context.Context, n *agentproto.Network) error {
		f.applied = append(f.applied, n.GetInterfaces()[0].GetName())
		return f.applyErr
	}
	return f
}

// named is a network with one interface.
func named(name string) *agentproto.Network {
	return &agentproto.Network{Interfaces: []*agentproto.Interface{{Name: name, Mac: testMAC(1)}}}
}

// appliedAre fails the test unless those networks were applied, in this order.
func (f *fakeConfiguration) appliedAre(t *testing.T, names ...string) {
	t.Helper()
	if len(f.applied) != len(names) {
		t.Fatalf("applied %q, want %q", f.applied, names)
	}
	for i, name := range names {
		if f.applied[i] != name {
			t.Fatalf("applied %q, want %q", f.applied, names)
		}
	}
}

func TestConfigureComesFirst(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	_, err := a.CreateContainer(t.Context(), &agentproto.CreateContainerRequest{ContainerId: "a", Spec: []byte(goodSpec)})
	if !errors.Is(err, errNotConfigured) || codeOf(err) != codes.FailedPrecondition {
		t.Errorf("create: %v", err)
	}
}

func TestConfigureRefusesBeforeItChanges(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	f := newFakeConfiguration()
	a.configuration.mountShare = f.mountShare
	bad := named("..")
	for name, req := range map[string]*agentproto.ConfigureRequest{
		"network": {Network: bad}, "clock": {HostTimeNs: -1},
	} {
		if _, err := a.Configure(t.Context(), req); codeOf(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f.mounts != 0 || a.configuration.ready() == nil {
		t.Error("something was done all the same")
	}
}

func TestMountThatFailsIsTheCallsError(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	f := newFakeConfiguration()
	f.mountErr = errors.New("no such device")
	a.moduleErr = errors.New("load module virtiofs: bad")
	a.configuration.mountShare = f.mountShare
	_, err := a.Configure(t.Context(), &agentproto.ConfigureRequest{})
	if err == nil || err.Error() != "no such device (load module virtiofs: bad)" {
		t.Errorf("error %v", err)
	}
	if a.configuration.ready() == nil {
		t.Error("configured all the same")
	}
	f.mountErr = nil
	for range 2 {
		if _, err := a.Configure(t.Context(), &agentproto.ConfigureRequest{}); err != nil {
			t.Error(err)
		}
	}
	if f.mounts != 2 || a.configuration.ready() != nil {
		t.Errorf("mounted %d times", f.mounts)
	}
}

func TestNetworkIsAppliedOnce(t *testing.T) {
	ctx := t.Context()
	f := newFakeConfiguration()
	if err := f.configure(ctx, named("boot")); err != nil {
		t.Fatal(err)
	}
	f.appliedAre(t) // the first container decides in which namespace
	for range 3 {
		if err := f.joinNetwork(ctx); err != nil {
			t.Fatal(err)
		}
	}
	f.appliedAre(t, "boot")
	if err := errors.Join(f.changeNetwork(ctx, nil), f.changeNetwork(ctx, named("start")), f.joinNetwork(ctx)); err != nil {
		t.Fatal(err)
	}
	f.appliedAre(t, "boot", "start")
	if err := errors.Join(f.moveNetwork(ctx), f.configure(ctx, named("restored")), f.joinNetwork(ctx)); err != nil {
		t.Fatal(err)
	}
	f.appliedAre(t, "boot", "start", "start", "restored")
}

func TestNetworkThatFailsIsTriedAgain(t *testing.T) {
	ctx := t.Context()
	f := newFakeConfiguration()
	f.applyErr = errors.New("no NIC")
	if err := f.configure(ctx, named("boot")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.joinNetwork(ctx); !errors.Is(err, f.applyErr) {
			t.Errorf("error %v", err)
		}
	}
	if err := f.changeNetwork(ctx, named("..")); codeOf(err) != codes.InvalidArgument {
		t.Errorf("bad network: %v", err)
	}
	f.applyErr = nil
	if err := f.joinNetwork(ctx); err != nil {
		t.Error(err)
	}
	f.appliedAre(t, "boot", "boot", "boot")
}

// The clock of the machine that runs this test is only read.
func TestAdjustClockByNothing(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	before := time.Now().UnixNano()
	resp, err := a.AdjustClock(t.Context(), &agentproto.AdjustClockRequest{})
	if err != nil || resp.GetTimeNs() < before || resp.GetTimeNs() > time.Now().UnixNano() {
		t.Errorf("%v, %v", resp, err)
	}
	for _, by := range []int64{math.MinInt64, -time.Now().UnixNano() - int64(time.Hour)} {
		if _, err := a.AdjustClock(t.Context(), &agentproto.AdjustClockRequest{ByNs: by}); !errors.Is(err, errInvalidRequest) {
			t.Errorf("by %d it is not refused", by)
		}
	}
}
