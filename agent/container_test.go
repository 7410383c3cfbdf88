package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// fakeCgroup is a cgroup whose freezer does what it is told.
type fakeCgroup struct {
	cgroups.Manager
	state cgroups.FreezerState
	oom   uint64
	err   error
	pids  []int
}

func (f *fakeCgroup) Freeze(s cgroups.FreezerState) error {
	f.state = s
	return f.err
}
func (f *fakeCgroup) OOMKillCount() (uint64, error) { return f.oom, f.err }
func (f *fakeCgroup) GetAllPids() ([]int, error)    { return f.pids, f.err }
func (f *fakeCgroup) Path(string) string            { return "/nowhere" }

func TestPhases(t *testing.T) {
	cg := &fakeCgroup{}
	c := &container{cgroup: cg, execs: make(map[string]*process)}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	if err := c.start(); !errors.Is(err, errStartRunning) {
		t.Errorf("second start: %v", err)
	}
	if err := c.freeze(t.Context(), false); !errors.Is(err, errNotPaused) {
		t.Errorf("resume: %v", err)
	}
	if err := c.freeze(t.Context(), true); err != nil || cg.state != cgroups.Frozen {
		t.Errorf("pause: %v, %s", err, cg.state)
	}
	if err := c.freeze(t.Context(), true); !errors.Is(err, errNotRunning) {
		t.Errorf("second pause: %v", err)
	}
	if err := errors.Join(c.canExec(true)); err != nil {
		t.Errorf("exec that ignores the pause: %v", err)
	}
	if err := c.canExec(false); !errors.Is(err, errExecPaused) {
		t.Errorf("exec while paused: %v", err)
	}
	if err := c.freeze(t.Context(), false); err != nil || cg.state != cgroups.Thawed {
		t.Errorf("resume: %v, %s", err, cg.state)
	}
	if c.ended() {
		t.Error("memory was not short")
	}
	for name, err := range map[string]error{
		errStartStopped.Error(): c.start(), errExecStopped.Error(): c.canExec(true),
		errNotRunning.Error(): c.freeze(t.Context(), true), errNotPaused.Error(): c.freeze(t.Context(), false),
	} {
		if err == nil || err.Error() != name {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A pause that fails leaves the container running: otherwise the remaining processes would
// freeze later, in a container that the host takes for running.
func TestFailedPauseIsUndone(t *testing.T) {
	cg := &fakeCgroup{err: errors.New("unable to freeze")}
	c := &container{cgroup: cg, phase: running}
	if err := c.freeze(t.Context(), true); !errors.Is(err, cg.err) || cg.state != cgroups.Thawed {
		t.Errorf("%v, and it is %s", err, cg.state)
	}
	cg.state, cg.err = cgroups.Undefined, nil
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.freeze(gone, true); !errors.Is(err, context.Canceled) || cg.state != cgroups.Undefined {
		t.Errorf("nobody waits any more: %v, and it is %s", err, cg.state)
	}
	if err := c.canExec(false); err != nil {
		t.Errorf("it is not paused: %v", err)
	}
}

func TestMemoryShortage(t *testing.T) {
	cg := &fakeCgroup{oom: 2}
	c := &container{cgroup: cg}
	if c.oomKills() != 2 || !c.ended() {
		t.Error("kills are not counted")
	}
	cg.err = os.ErrNotExist
	if c.oomKills() != 1 || !c.ended() {
		t.Error("forgotten with the cgroup")
	}
}

func TestSignalAll(t *testing.T) {
	c := &container{cgroup: &fakeCgroup{pids: []int{os.Getpid(), 1 << 29}}}
	if err := c.signalAll(0); err != nil {
		t.Errorf("one of them had ended: %v", err)
	}
	c.cgroup = &fakeCgroup{err: os.ErrNotExist}
	if err := errors.Join(c.signalAll(unix.SIGTERM), c.signalAll(unix.SIGKILL)); err != nil {
		t.Errorf("nothing to signal: %v", err)
	}
}

func TestExecsAreNamedOnce(t *testing.T) {
	c := &container{init: &process{}, execs: make(map[string]*process)}
	if err := c.reserve("e"); err != nil {
		t.Fatal(err)
	}
	if err := c.reserve("e"); !errors.Is(err, errProcessExists) {
		t.Errorf("second: %v", err)
	}
	if _, err := c.process("e"); !errors.Is(err, errNoProcess) {
		t.Errorf("not there yet: %v", err)
	}
	p := new(process)
	c.setExec("e", p)
	if got, err := c.process("e"); got != p || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.process(""); got != c.init || err != nil {
		t.Errorf("init: %v, %v", got, err)
	}
	c.forget("e", new(process))
	if len(c.execs) != 1 {
		t.Error("another process of that id is forgotten")
	}
	c.forget("e", p)
	if len(c.execs) != 0 {
		t.Error("it is kept")
	}
	for i := range maxExecs {
		c.setExec(fmt.Sprint(i), p)
	}
	if err := c.canExec(false); !errors.Is(err, errTooMany) {
		t.Errorf("too many: %v", err)
	}
}

func TestTable(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	tb, ctx := a.table, t.Context()
	if err := tb.reserve(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := tb.reserve(ctx, "x"); !errors.Is(err, errExists) {
		t.Errorf("being made: %v", err)
	}
	tb.release("x", nil)
	c := fakeContainer(a, "x")
	c.init.waiting.Add(1)
	if err := tb.reserve(ctx, "x"); !errors.Is(err, errExists) {
		t.Errorf("there: %v", err)
	}
	c.phase = stopped
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := tb.reserve(cancelled, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("what it left is still there: %v", err)
	}
	close(c.gone)
	if err := tb.reserve(ctx, "x"); err != nil {
		t.Errorf("its end makes room: %v", err)
	}
	tb.release("x", nil)
	if _, err := tb.get("x"); !errors.Is(err, errNoContainer) {
		t.Errorf("get: %v", err)
	}
}

func TestTableIsBounded(t *testing.T) {
	a := newAgent(slog.New(slog.DiscardHandler), false)
	var second *container
	for i := range maxContainers {
		if c := fakeContainer(a, fmt.Sprint(i)); i == 1 {
			second = c
		}
	}
	if err := a.table.reserve(t.Context(), "one more"); !errors.Is(err, errTooMany) {
		t.Errorf("full: %v", err)
	}
	second.phase = stopped
	close(second.gone)
	if err := a.table.reserve(t.Context(), "one more"); err != nil {
		t.Errorf("one has ended: %v", err)
	}
	if _, err := a.table.get("1"); !errors.Is(err, errNoContainer) || len(a.table.all()) != maxContainers-1 {
		t.Errorf("the ended one is still there: %v", err)
	}
}

// A process is started while the container is not paused, and it is not paused
// while one is started.
func TestStartsAndPausesExcludeEachOther(t *testing.T) {
	c := &container{cgroup: &fakeCgroup{}, phase: running}
	if err := c.freeze(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.awaitThawed(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("paused: %v", err)
	}
	thawed := make(chan func(), 1)
	go func() {
		release, err := c.awaitThawed(t.Context())
		if err != nil {
			t.Error(err)
		}
		thawed <- release
	}()
	if err := c.freeze(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	release := <-thawed
	frozen := make(chan error, 1)
	go func() { frozen <- c.freeze(t.Context(), true) }()
	select {
	case err := <-frozen:
		t.Errorf("paused during a start: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if err := <-frozen; err != nil {
		t.Error(err)
	}
	go func() {
		_, err := c.awaitThawed(t.Context())
		frozen <- err
	}()
	c.ended()
	if err := <-frozen; err != nil {
		t.Errorf("the end of a paused container: %v", err)
	}
}
