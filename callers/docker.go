package callers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/tailscale/hujson"
)

const (
	dockerFile       = "/etc/docker/daemon.json"
	dockerRuntimes   = "runtimes"
	dockerDefaultKey = "default-runtime"
)

func docker() *Caller {
	return &Caller{
		Name: "docker",
		next: "let dockerd read it: systemctl reload docker",
		// A reload adds runtimes but removes none, and keeps a default that was removed from the file.
		afterLoss: "restart docker, which forgets nothing before that: systemctl restart docker",
		Use:       "use it by: docker run --runtime runch …",
		program:   "dockerd",
		tried:     []string{"20.10", "26.1"},
		file:      func(Host) string { return dockerFile },
		install:   installDocker,
		remove:    removeDocker,
		validate:  validateDocker,
		look:      lookAtDocker,
	}
}

// installDocker adds the runtime to daemon.json. All other bytes of the file stay the same.
func installDocker(s source, w Want) (edited, error) {
	d, err := readDaemonJSON(s.before)
	if err != nil {
		return edited{}, err
	}
	var notes []string
	program, err := d.program()
	if err != nil {
		return edited{}, err
	}
	if program != "" && !isOurs(program, w.Program) {
		return edited{}, fmt.Errorf("it has a runtime %s with the path %s, %w: remove that first", runtimeName, program, ErrForeign)
	}
	if program != w.Program {
		runtimes, err := d.top.inner(dockerRuntimes)
		if err != nil {
			return edited{}, err
		}
		entry, err := runtimes.inner(runtimeName)
		if err != nil {
			return edited{}, err
		}
		entry.set("path", w.Program)
	}
	former := d.defaultRuntime()
	lost := false
	switch isDefault := whether(w.Default, former == runtimeName); {
	case isDefault && former != runtimeName:
		d.top.set(dockerDefaultKey, runtimeName)
		if former != "" {
			notes = append(notes, fmt.Sprintf("%s was %s; --remove does not bring that back.", dockerDefaultKey, former))
		}
	case !isDefault && former == runtimeName:
		d.top.remove(dockerDefaultKey)
		lost = true
	}
	after, err := d.pack()
	return edited{after: after, notes: notes, lost: lost}, err
}

// removeDocker removes the runtime, and the default runtime if that is runch.
func removeDocker(s source, own string) (edited, error) {
	d, err := readDaemonJSON(s.before)
	if err != nil {
		return edited{}, err
	}
	program, err := d.program()
	if err != nil {
		return edited{}, err
	}
	if program == "" {
		return edited{after: s.before}, nil
	}
	if !isOurs(program, own) {
		return edited{after: s.before}, fmt.Errorf("its runtime %s has the path %s, %w", runtimeName, program, ErrForeign)
	}
	runtimes, err := d.top.inner(dockerRuntimes)
	if err != nil {
		return edited{}, err
	}
	runtimes.remove(runtimeName)
	if runtimes.empty() {
		d.top.remove(dockerRuntimes)
	}
	if d.defaultRuntime() == runtimeName {
		d.top.remove(dockerDefaultKey)
	}
	if d.top.empty() {
		return edited{lost: true}, nil
	}
	after, err := d.pack()
	return edited{after: after, lost: true}, err
}

// dockerValidates is the first version of dockerd with --validate.
const dockerValidates = 23

func validateDocker(ctx context.Context, v *Version, content []byte) error {
	if v.major < dockerValidates {
		return fmt.Errorf("%w before %d.0", errNotValidated, dockerValidates)
	}
	return aside("", content, func(file string) error {
		_, err := output(ctx, os.Environ(), v.Path, "--config-file", file, "--validate")
		return err
	})
}

func lookAtDocker(_ context.Context, h Host, _ *Version) (Configured, error) {
	content, err := h.read(dockerFile)
	if err != nil {
		return Configured{}, err
	}
	d, err := readDaemonJSON(content)
	if err != nil {
		return Configured{}, fmt.Errorf("%s: %w", dockerFile, err)
	}
	program, err := d.program()
	return Configured{Program: program, Default: d.defaultRuntime() == runtimeName}, err
}

// daemonJSON is docker's daemon.json.
type daemonJSON struct {
	value hujson.Value
	top   *object
	// base is the decoded content as it was read.
	base map[string]any
}

// readDaemonJSON reads the file. No file and an empty one, which dockerd accepts, count as an
// empty object.
func readDaemonJSON(content []byte) (*daemonJSON, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		content = []byte("{}\n")
	}
	d := &daemonJSON{base: make(map[string]any)}
	if err := json.Unmarshal(content, &d.base); err != nil {
		return nil, fmt.Errorf("it is not an object in JSON: %w", err)
	}
	var err error
	if d.value, err = hujson.Parse(content); err != nil {
		return nil, err
	}
	o, ok := d.value.Value.(*hujson.Object)
	if !ok {
		return nil, errors.New("it is not an object in JSON")
	}
	flat := len(o.Members) > 0 && !bytes.Contains(o.AfterExtra, []byte("\n"))
	d.top = &object{Object: o, indent: "\n", unit: indentation(content), flat: flat}
	return d, nil
}

// program is the path of the runtime that is called runch, empty where there is none.
func (d *daemonJSON) program() (string, error) {
	runtimes, ok := d.base[dockerRuntimes]
	if !ok {
		return "", nil
	}
	names, ok := runtimes.(map[string]any)
	if !ok {
		return "", fmt.Errorf("%s is not an object", dockerRuntimes)
	}
	entry, ok := names[runtimeName].(map[string]any)
	if !ok {
		if names[runtimeName] != nil {
			return "", fmt.Errorf("%s.%s is not an object", dockerRuntimes, runtimeName)
		}
		return "", nil
	}
	program, _ := entry["path"].(string)
	if program == "" {
		return "", fmt.Errorf("%s.%s has no path, %w: remove it first", dockerRuntimes, runtimeName, ErrForeign)
	}
	return program, nil
}

func (d *daemonJSON) defaultRuntime() string {
	name, _ := d.base[dockerDefaultKey].(string)
	return name
}

// pack returns the file's new content. It fails if that changes any setting that is not runch's.
func (d *daemonJSON) pack() ([]byte, error) {
	content := d.value.Pack()
	after := make(map[string]any)
	if err := json.Unmarshal(content, &after); err != nil {
		return nil, fmt.Errorf("%w (%w)", errUnsafe, err)
	}
	if !reflect.DeepEqual(others(after), others(d.base)) {
		return nil, errUnsafe
	}
	return content, nil
}

// others returns the settings without runch's.
func others(settings map[string]any) map[string]any {
	all := make(map[string]any)
	for key, value := range settings {
		runtimes, ok := value.(map[string]any)
		switch {
		case key == dockerRuntimes && ok:
			for name, runtime := range runtimes {
				if name != runtimeName {
					all[dockerRuntimes+"."+name] = runtime
				}
			}
		case key != dockerDefaultKey:
			all[key] = value
		}
	}
	return all
}

// indentation returns the white space before the first member in a file.
func indentation(content []byte) string {
	for line := range strings.Lines(string(content)) {
		if inner := strings.TrimLeft(line, " \t"); len(inner) < len(line) && strings.HasPrefix(inner, `"`) {
			return line[:len(line)-len(inner)]
		}
	}
	return "    "
}
