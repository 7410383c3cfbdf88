package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asProgram makes this test binary run Main, so that a fallback runtime can replace it.
const asProgram = "RUNCH_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main(context.Background(), append([]string{name}, os.Args[1:]...), "0"))
	}
	os.Exit(m.Run())
}

// fakeRuntime is a fallback runtime that records its arguments, and for exec the content of
// file descriptor 3, in the file $CALLS. It makes and removes its state directories.
const fakeRuntime = `#!/bin/sh
printf '%s|' "$@" >>"$CALLS"
for id; do :; done
case $* in
*" create "*) mkdir -p "$2/$id" ;;
*" delete "*) rmdir "$2/$id" ;;
*" exec "*) cat <&3 >>"$CALLS"; exit 42 ;;
*" list "*) echo '[]' ;;
esac
echo >>"$CALLS"
`

// mixed is a root directory, a bundle that asks for the host's network, and a fallback
// runtime for it.
type mixed struct{ dir string }

func newMixed(t *testing.T) *mixed {
	t.Helper()
	m := &mixed{dir: t.TempDir()}
	spec := `{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}]}}`
	if err := os.WriteFile(m.path("config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path("fakerunc"), []byte(fakeRuntime), 0o700); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	return m
}

func (m *mixed) path(name string) string { return filepath.Join(m.dir, name) }

// command returns a command that runs the program, with file descriptor 3 open.
func (m *mixed) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	extra, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = extra.Close() })
	if _, err := io.WriteString(w, "fd3"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"--root", m.path("root")}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "CALLS="+m.path("calls"), "RUNCH_FALLBACK_RUNTIME="+m.path("fakerunc"), "RUNCH_CONFIG=")
	cmd.Dir, cmd.ExtraFiles = m.dir, []*os.File{extra}
	return cmd
}

// calls returns the fallback runtime's calls since the last time.
func (m *mixed) calls(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(m.path("calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	_ = os.Remove(m.path("calls")) // the next call makes it
	return string(data)
}

func TestEveryCommandIsPassedOn(t *testing.T) {
	m := newMixed(t)
	root := m.path("root") + "/=fakerunc"
	for _, tt := range []struct {
		args string
		want string
		code int
	}{
		{
			"--debug --log /dev/null --log-format=json --systemd-cgroup --memory 1G create --pid-file p c",
			"--debug|--log|/dev/null|--log-format=json|--systemd-cgroup|create|--pid-file|p|c|", 0,
		},
		{"start c", "start|c|", 0},
		{"--rootless false state c", "--rootless|false|state|c|", 0},
		{"kill c KILL --all", "kill|c|KILL|--all|", 0},
		{"pause c", "pause|c|", 0},
		{"resume c", "resume|c|", 0},
		{"ps --format json c -ef", "ps|--format|json|c|-ef|", 0},
		{"update --resources - c", "update|--resources|-|c|", 0},
		{"events --stats c", "events|--stats|c|", 0},
		{"exec --preserve-fds 1 c prog -x --root /", "exec|--preserve-fds|1|c|prog|-x|--root|/|fd3", 42},
		{"list --quiet", "list|--format|json|", 0},
		{"delete --force c", "delete|--force|c|", 0},
		{"state c", "", 1}, // the record is gone, and no VM has a container of that name
	} {
		out, err := m.command(t, strings.Fields(tt.args)...).CombinedOutput()
		var exit *exec.ExitError
		code := 0
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		want := ""
		if tt.want != "" {
			want = fmt.Sprintf("--root|%s|%s", root, tt.want)
		}
		if got := strings.TrimSuffix(m.calls(t), "\n"); got != want || code != tt.code {
			t.Errorf("%s: the runtime got %s, exit code %d\n%s", tt.args, got, code, out)
		}
	}
	if left, err := os.ReadDir(m.path("root")); err != nil || len(left) > 0 {
		t.Errorf("left in the root: %v, %v", left, err)
	}
}

// A runtime that cannot be executed leaves no record of the container.
func TestRuntimeThatCannotBeExecuted(t *testing.T) {
	m := newMixed(t)
	for _, step := range []struct {
		what   string
		change func() error
	}{
		{"is no program", func() error { return os.WriteFile(m.path("fakerunc"), []byte{0x7f, 'E', 'L', 'F', 0}, 0o600) }},
		{"is missing", func() error { return os.Remove(m.path("fakerunc")) }},
	} {
		what := step.what
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"create", "run"} {
			out, err := m.command(t, verb, "c").CombinedOutput()
			if err == nil || !strings.Contains(string(out), m.path("fakerunc")) {
				t.Errorf("%s with a runtime that %s: %v\n%s", verb, what, err, out)
			}
		}
		if left, _ := os.ReadDir(m.path("root")); len(left) > 0 {
			t.Errorf("left in the root: %v", left)
		}
	}
}

func TestFallbackFlags(t *testing.T) {
	flags := newProgram().globalFlags()
	for line, want := range map[string][]string{
		"runch":           nil,
		"runch list":      nil,
		"runch --debug":   {"--debug"},
		"runch --log x y": {"--log", "x"},
		"runch --root r -debug --log=l --kernel k --config=c --criu x create --log x": {"-debug", "--log=l"},
	} {
		if diff := cmp.Diff(want, fallbackFlags(flags, strings.Fields(line))); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
}
