package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"runch/state"

	"golang.org/x/sys/unix"
)

// A record outlives its container where the runtime's create has failed or was killed.
func TestRecordWithoutContainerIsForgotten(t *testing.T) {
	r := newRig(t)
	r.withFallback(t, "exit 1\n")
	if f, err := r.passOn(t, "c", hostNetwork); f == nil || err != nil {
		t.Fatal(f, err)
	}
	// Its create is under way: the recorded creator is this process, which lives.
	if r.FallbackOf(t.Context(), "c") == nil {
		t.Fatal("a container is forgotten that is being created")
	}
	if _, err := r.passOn(t, "c", hostNetwork); !errors.Is(err, state.ErrExist) {
		t.Errorf("a second create of the same container: %v", err)
	}
	r.orphan(t, "c")
	if f := r.FallbackOf(t.Context(), "c"); f != nil {
		t.Errorf("it is still %+v", f)
	}
	r.onlyLeft(t)

	r.mustPassOn(t, "c", hostNetwork)
	r.orphan(t, "c")
	if r.FallbackOf(t.Context(), "c") == nil {
		t.Error("a container is forgotten that its runtime knows")
	}
}

func TestDeleteOfWhatWasPassedOn(t *testing.T) {
	r := newRig(t)
	program := r.withFallback(t, `echo "$@" >>"${0%/*}/calls"
[ ! -e "${0%/*}/fails" ] || exit 3
for id; do :; done
rmdir "$2/$id"
`)
	fails, calls := filepath.Join(r.dir, "fails"), filepath.Join(r.dir, "calls")
	if err := os.WriteFile(fails, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.FallbackFlags = []string{"--log-format", "json"}
	f := r.mustPassOn(t, "c", hostNetwork)
	var exit *exec.ExitError
	if err := r.Delete(t.Context(), "c", true); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("a delete that fails: %v", err)
	}
	if r.FallbackOf(t.Context(), "c") == nil {
		t.Error("a delete that failed has removed the record")
	}
	if err := os.Remove(fails); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "c", false); err != nil {
		t.Error(err)
	}
	r.onlyLeft(t)
	said, err := os.ReadFile(calls)
	want := fmt.Sprintf("--root %[1]s --log-format json delete --force c\n--root %[1]s --log-format json delete c\n", f.Root)
	if err != nil || string(said) != want {
		t.Errorf("%s was called with:\n%s%v, not\n%s", program, said, err, want)
	}
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Errorf("delete --force of what is gone: %v", err)
	}
}

// delete --force ends the create of a container that its runtime does not know yet.
func TestDeleteEndsACreate(t *testing.T) {
	r := newRig(t)
	r.withFallback(t, "exit 1\n")
	if f, err := r.passOn(t, "c", hostNetwork); f == nil || err != nil {
		t.Fatal(f, err)
	}
	creator, err := state.ProcessOf(foreign(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.changeRecord("c", func(c *state.Container) { c.Creator = creator }); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "c", true); err != nil {
		t.Error(err)
	}
	if creator.Alive() {
		t.Error("the create goes on")
	}
	r.onlyLeft(t)
}

func TestListAsksTheFallback(t *testing.T) {
	r := newRig(t)
	program := r.withFallback(t, `cat <<EOT
[{"ociVersion":"1.0.2","id":"b","pid":7,"status":"running","bundle":"/b","created":"2026-01-02T03:04:05.6Z","owner":"root","more":1},
{"id":"nobodys","pid":8,"status":"running","created":"2026-01-02T03:04:05Z"}]
EOT
`)
	r.mustPassOn(t, "b", hostNetwork)
	if f, err := r.passOn(t, "lost", hostNetwork); f == nil || err != nil {
		t.Fatal(f, err)
	}
	r.orphan(t, "lost")
	list := func() string {
		states := []*State{{ID: "c", Status: "running", PID: 5}}
		for _, id := range []string{"b", "lost"} {
			if s, err := r.State(id); err == nil {
				states = append(states, s)
			}
		}
		all, err := r.AskFallbacks(t.Context(), states)
		var text strings.Builder
		for _, s := range all {
			fmt.Fprintf(&text, "%s %s %d %s;", s.ID, s.Status, s.PID, s.Fallback)
		}
		if err != nil {
			text.WriteString(err.Error())
		}
		return text.String()
	}
	const own = ";c running 5 ;"
	if got := list(); got != "b running 7 "+program+own {
		t.Error(got)
	}
	if _, err := r.Store.Load("lost"); !errors.Is(err, state.ErrNotExist) {
		t.Errorf("what its runtime does not know is still there: %v", err)
	}
	for script, want := range map[string]string{
		"echo broken >&2; exit 4\n": "exit status 4: broken", "echo '{'\n": "read what it says",
	} {
		r.withFallback(t, script)
		if got := list(); !strings.HasPrefix(got, "b unknown 0 "+program+own) || !strings.Contains(got, want) {
			t.Error(got)
		}
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if got := list(); !strings.HasPrefix(got, "b unknown 0 ") || !strings.Contains(got, "no such file") {
		t.Error(got)
	}
}

func TestRuntimeThatHangsIsNotWaitedFor(t *testing.T) {
	began := time.Now()
	var out strings.Builder
	err := runFallback(t.Context(), 200*time.Millisecond, []string{"sh", "-c", "sleep 300 & echo $!; exec sleep 300"}, &out, &strings.Builder{})
	if pid, err := strconv.Atoi(strings.TrimSpace(out.String())); err == nil {
		_ = unix.Kill(pid, unix.SIGKILL) // it holds the output open
	}
	if err == nil || !strings.Contains(err.Error(), "did not end within 200ms") {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}
