package sandbox

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runch/config"
	"runch/hooks"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func shell(script string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}
}

func TestHooksGetTheStateInTheirOrder(t *testing.T) {
	dir := t.TempDir()
	c := &state.Container{ID: "c", OCIVersion: "1.0.2", Bundle: dir, Shim: state.Process{PID: 42}, Annotations: map[string]string{"a": "b"}}
	list := []specs.Hook{shell("cat > state; echo 1 >> order"), shell("echo 2 >> order")}
	if err := hooks.Run(t.Context(), "createRuntime", list, c.Bundle, hookState(c, specs.StateCreating)); err != nil {
		t.Fatal(err)
	}
	// A hook's directory is the bundle.
	data, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	var s specs.State
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if s.ID != "c" || s.Pid != 42 || s.Status != specs.StateCreating || s.Bundle != dir || s.Annotations["a"] != "b" {
		t.Errorf("state %+v", s)
	}
	if order, err := os.ReadFile(filepath.Join(dir, "order")); err != nil || string(order) != "1\n2\n" {
		t.Errorf("order %q, %v", order, err)
	}
}

func TestPoststopHooksAllRunAndGetNoPid(t *testing.T) {
	dir := t.TempDir()
	c := &state.Container{
		ID: "c", Bundle: dir, Shim: state.Process{PID: 42},
		Hooks: &specs.Hooks{Poststop: []specs.Hook{shell("echo words; exit 3"), shell("cat > state")}},
	}
	var log strings.Builder
	r := &Runtime{Log: slog.New(slog.NewTextHandler(&log, nil))}
	r.runPoststop(t.Context(), c)
	for _, want := range []string{"level=WARN", "error running poststop hook #0: exit status 3", "words"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in %s", want, log.String())
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "state")); err != nil || strings.Contains(string(data), `"pid"`) {
		t.Errorf("state %s, %v", data, err)
	}
}

func TestHookFailureNamesTheHook(t *testing.T) {
	c := &state.Container{ID: "c", Bundle: t.TempDir()}
	list := []specs.Hook{shell("true"), shell("echo words; exit 3"), shell("touch after")}
	err := hooks.Run(t.Context(), "prestart", list, c.Bundle, hookState(c, specs.StateCreating))
	if err == nil {
		t.Fatal("a failed hook is no error")
	}
	for _, want := range []string{"error running prestart hook #1: ", "words", "exit status 3"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if _, err := os.Stat(filepath.Join(c.Bundle, "after")); err == nil {
		t.Error("a hook ran after the one that failed")
	}
}

func TestHooksHaveTheirOwnTime(t *testing.T) {
	second, long := 1, 7200
	c := &creation{r: &Runtime{Config: config.Default()}, host: &oci.HostPart{Hooks: &specs.Hooks{
		CreateRuntime:   []specs.Hook{{Timeout: &second}, {}},
		CreateContainer: []specs.Hook{{Timeout: &long}},
		Poststop:        []specs.Hook{{}},
	}}}
	want := c.r.Config.BootTimeout + callTimeout + time.Second + 5*time.Minute + 2*time.Hour
	if got := c.timeout(); got != want {
		t.Errorf("create may take %s, want %s", got, want)
	}
	c.host.Hooks = nil
	if got := c.timeout(); got != c.r.Config.BootTimeout+callTimeout {
		t.Errorf("create without hooks may take %s", got)
	}
}

func TestStartHooksTimeout(t *testing.T) {
	three := 3
	h := &specs.Hooks{StartContainer: []specs.Hook{{Timeout: &three}, {}}, Poststart: []specs.Hook{{}}}
	if got := startHooksTimeout(h); got != 3*time.Second+5*time.Minute {
		t.Errorf("%s", got)
	}
	if got := startHooksTimeout(nil); got != 0 {
		t.Errorf("%s without hooks", got)
	}
}

func TestLimitStartHooks(t *testing.T) {
	three := 3
	h := &specs.Hooks{StartContainer: []specs.Hook{{Timeout: &three}, {}}, Poststart: []specs.Hook{{}}}
	limitStartHooks(h)
	limitStartHooks(nil)
	if got := h.StartContainer; *got[0].Timeout != 3 || got[1].Timeout == nil || *got[1].Timeout != 300 {
		t.Errorf("%+v", got)
	}
	if h.Poststart[0].Timeout != nil {
		t.Error("the host's have their limit there")
	}
}

func TestHookTimeout(t *testing.T) {
	c := &state.Container{ID: "c", Bundle: t.TempDir()}
	hook := shell("exec sleep 60")
	second := 1
	hook.Timeout = &second
	started := time.Now()
	err := hooks.Run(context.Background(), "poststart", []specs.Hook{hook}, c.Bundle, hookState(c, specs.StateRunning))
	if err == nil || !strings.Contains(err.Error(), "hook ran past specified timeout of 1.0s") {
		t.Errorf("error %v", err)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}
