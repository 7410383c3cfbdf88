package callers

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// daemonFiles returns daemon.json files in the forms that people write.
func daemonFiles() map[string]string {
	return map[string]string{
		"tabs":     "{\n\t\"log-driver\": \"journald\",\n\t\"dns\": [\"192.0.2.1\", \"192.0.2.2\"]\n}\n",
		"one line": `{"log-opts": {"max-size": "10m"}, "mtu": 1400}`,
		"numbers":  "{\n  \"max-concurrent-downloads\": 12345678901234567890,\n  \"x\": 1e2,\n  \"y\":   1.50\n}\n",
		"another runtime": "{\n    \"default-runtime\": \"nvidia\",\n    \"runtimes\": {\n        \"nvidia\": {\n            \"args\": [],\n" +
			"            \"path\": \"nvidia-container-runtime\"\n        }\n    },\n    \"debug\": false\n}",
		"runtimes on one line": "{\n  \"runtimes\": {\"crun\": {\"path\": \"/usr/bin/crun\"}}\n}\n",
		"empty":                "{}",
		"spaces":               "  \n",
	}
}

func TestDaemonJSON(t *testing.T) {
	for name, content := range daemonFiles() {
		t.Run(name, func(t *testing.T) {
			h := machine(t, map[string]string{dockerFile: content})
			got := install(t, docker(), h, Want{Program: runchPath})
			golden(t, "docker."+strings.ReplaceAll(name, " ", "-"), got)
			if !json.Valid(got) {
				t.Errorf("this is no JSON: %s", got)
			}
			again, err := docker().Install(t.Context(), h, Want{Program: runchPath})
			if err != nil || again.Changes() {
				t.Errorf("a second time changes %q, %v", again.Diff(), err)
			}
			remove(t, docker(), h)
			after, err := h.read(dockerFile)
			if err != nil {
				t.Fatal(err)
			}
			if len(strings.Trim(content, "{} \n")) == 0 {
				if after != nil {
					t.Errorf("what said nothing is %q now", after)
				}
			} else if string(after) != content {
				t.Errorf("it was %q and is %q", content, after)
			}
		})
	}
}

func TestDockerKeepsWhatTheUserAddedToItsRuntime(t *testing.T) {
	h := machine(t, map[string]string{dockerFile: `{"runtimes": {"runch": {"path": "/opt/runch", "runtimeArgs": ["--debug"]}}}`})
	want := `{"runtimes": {"runch": {"path": "/usr/local/bin/runch", "runtimeArgs": ["--debug"]}}}`
	if got := install(t, docker(), h, Want{Program: runchPath}); string(got) != want {
		t.Errorf("it is %s", got)
	}
}

// An entry whose path does not end with runch belongs only to the program with that path.
func TestDockerRuntimeOfAnotherName(t *testing.T) {
	h := machine(t, nil)
	install(t, docker(), h, Want{Program: "/opt/runch-1"})
	if _, err := docker().Install(t.Context(), h, Want{Program: "/opt/runch-1"}); err != nil {
		t.Error(err)
	}
	if _, err := docker().Remove(t.Context(), h, runchPath); !errors.Is(err, ErrForeign) {
		t.Errorf("another program says %v", err)
	}
	if p, err := docker().Remove(t.Context(), h, "/opt/runch-1"); err != nil || !p.Removes() {
		t.Errorf("its own says %v", err)
	}
}

// A reload of dockerd removes neither a runtime nor the default.
func TestDockerHasToBeRestartedToForget(t *testing.T) {
	h := machine(t, map[string]string{dockerFile: daemonFiles()["tabs"]})
	next := func(p *Plan, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		apply(t, p)
		return p.Next()
	}
	if got := next(docker().Install(t.Context(), h, Want{Program: runchPath, Default: yes()})); !strings.Contains(got, "reload docker") {
		t.Errorf("after install: %s", got)
	}
	for what, plan := range map[string]func() (*Plan, error){
		"the default is gone": func() (*Plan, error) {
			return docker().Install(t.Context(), h, Want{Program: runchPath, Default: no()})
		},
		"it is removed": func() (*Plan, error) { return docker().Remove(t.Context(), h, runchPath) },
	} {
		install(t, docker(), h, Want{Program: runchPath, Default: yes()})
		if got := next(plan()); !strings.Contains(got, "restart docker") {
			t.Errorf("when %s: %s", what, got)
		}
	}
}

func TestDockerSaysWhichDefaultWas(t *testing.T) {
	h := machine(t, map[string]string{dockerFile: daemonFiles()["another runtime"]})
	p, err := docker().Install(t.Context(), h, Want{Program: runchPath, Default: yes()})
	if err != nil || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "nvidia") {
		t.Errorf("it says %v, %v", p.Notes, err)
	}
}

func TestDaemonJSONThatIsNone(t *testing.T) {
	for content, want := range map[string]string{
		"[]":                        "not an object",
		"null x":                    "not an object",
		"{\"a\": 1,}":               "not an object",
		"{\"a\": 1 // why\n}":       "not an object",
		`{"runtimes": 5}`:           "runtimes is not an object",
		`{"runtimes": {"runch":5}}`: "runtimes.runch is not an object",
	} {
		h := machine(t, map[string]string{dockerFile: content})
		if _, err := docker().Install(t.Context(), h, Want{Program: runchPath}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", content, err)
		}
	}
}

// For any daemon.json, install changes nothing but the runtime, and remove restores the
// values.
func FuzzDaemonJSON(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(daemonFiles())) {
		f.Add(daemonFiles()[name])
	}
	f.Fuzz(func(t *testing.T, content string) {
		s := source{before: []byte(content)}
		made, err := installDocker(s, Want{Program: runchPath, Default: yes()})
		if err != nil {
			return
		}
		d, err := readDaemonJSON(made.after)
		if err != nil {
			t.Fatalf("%q: %v", made.after, err)
		}
		if got, err := d.program(); err != nil || got != runchPath || d.defaultRuntime() != runtimeName {
			t.Fatalf("%q has %q, %v", made.after, got, err)
		}
		gone, err := removeDocker(source{before: made.after}, runchPath)
		if err != nil {
			t.Fatalf("%q: %v", made.after, err)
		}
		was, is := settings(t, []byte(content)), settings(t, gone.after)
		for _, key := range []string{dockerRuntimes, dockerDefaultKey} {
			delete(was, key)
			delete(is, key)
		}
		if !reflect.DeepEqual(was, is) {
			t.Fatalf("it was %q and is %q", content, gone.after)
		}
	})
}

func settings(t *testing.T, content []byte) map[string]any {
	t.Helper()
	d, err := readDaemonJSON(content)
	if err != nil {
		t.Fatal(err)
	}
	return d.base
}
