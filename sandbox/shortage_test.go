package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A container that was short of memory ends as it does otherwise, and its caller gets the
// file in the bundle. That the host's kernel counts an OOM kill is not tested here: for it
// the shim starts its program again with /proc as the root, where a test binary, which is
// linked against the host's libraries, does not start.
func TestAShortageOfMemoryIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		member, short bool
		manager       string
		file          bool
	}{
		"alone":            {short: true, manager: "cri-o", file: true},
		"member":           {member: true, short: true, manager: "cri-o", file: true},
		"podman":           {short: true, manager: "libpod", file: true},
		"another caller":   {short: true},
		"there was enough": {member: true, manager: "cri-o"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			change := annotated(map[string]string{}, nil)
			if c.member {
				change = memberOf(r.mustCreate(t, "pod", sandboxOf("pod")).Shim)
			}
			made := r.mustCreate(t, "c", func(s *specs.Spec) {
				change(s)
				if c.manager != "" {
					s.Annotations["io.container.manager"] = c.manager
				}
			})
			if c.short {
				r.fail(t, "memory")
			}
			if err := r.Kill(t.Context(), "c", unix.SIGTERM, false); err != nil {
				t.Fatal(err)
			}
			end(t, made.Shim)
			var ws unix.WaitStatus
			if _, err := unix.Wait4(made.Shim.PID, &ws, 0, nil); err != nil || ws.ExitStatus() != 128+int(unix.SIGTERM) {
				t.Errorf("the shim has ended with %#x, %v", ws, err)
			}
			if _, err := os.Stat(filepath.Join(made.Bundle, "oom")); (err == nil) != c.file {
				t.Errorf("the file in the bundle: %v", err)
			}
		})
	}
}
