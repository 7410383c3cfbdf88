package sandbox

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hookReading makes the named pipe that a fake VM's boot waits at, and gives a spec a
// createContainer hook that waits there for the boot, and then runs the script.
func (r *rig) hookReading(t *testing.T, script string) func(*specs.Spec) {
	t.Helper()
	pipe := filepath.Join(r.dir, bootPipe)
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	hook, seconds := shell("read x <"+pipe+"; "+script), 60
	hook.Timeout = &seconds
	return func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{hook}} }
}

// The hook waits for the boot, and the boot for the hook.
func TestBootsWhileTheContainerIsPrepared(t *testing.T) {
	r := newRig(t)
	r.mustCreate(t, "c", r.hookReading(t, "true"))
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Error(err)
	}
}

func TestBootThatFailsEndsAHook(t *testing.T) {
	r := newRig(t)
	r.fail(t, "boot")
	start := time.Now()
	err := r.create(t, "c", r.hookReading(t, "exec sleep 60"))
	if err == nil || !strings.Contains(err.Error(), "start the VM") {
		t.Errorf("create: %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("create took %v, as long as the hook", took)
	}
}

func TestHookThatFailsEndsTheBoot(t *testing.T) {
	r := newRig(t)
	r.fail(t, "hello")
	start := time.Now()
	err := r.create(t, "c", r.hookReading(t, "exit 3"))
	if err == nil || !strings.Contains(err.Error(), "createContainer hook #0: exit status 3") {
		t.Errorf("create: %v", err)
	}
	if took := time.Since(start); took >= r.Config.BootTimeout {
		t.Errorf("create took %v, as long as a boot may", took)
	}
}
