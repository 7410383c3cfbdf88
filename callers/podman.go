package callers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

const podmanDropIn = "runch.conf"

func podman() *Caller {
	return &Caller{
		Name:     "podman",
		next:     "podman reads its files with each command: nothing has to be restarted",
		Use:      "use it by: podman --runtime runch run …",
		program:  "podman",
		tried:    []string{"4.3", "5.4"},
		file:     func(h Host) string { return filepath.Join(podmanHome(h), "containers.conf.d", podmanDropIn) },
		install:  installPodman,
		remove:   removePodman,
		validate: validatePodman,
		look:     lookAtPodman,
	}
}

// podmanHome returns the directory of containers.conf.
func podmanHome(h Host) string {
	if h.ConfigHome != "" {
		return filepath.Join(h.ConfigHome, "containers")
	}
	return "/etc/containers"
}

// podmanFiles returns the files that podman reads. Each overrides those before it.
func podmanFiles(h Host) ([]string, error) {
	files := []string{"/usr/share/containers/containers.conf"}
	homes := []string{"/etc/containers"}
	if h.ConfigHome != "" {
		homes = append(homes, podmanHome(h))
	}
	for _, home := range homes {
		dropIns, err := h.glob(filepath.Join(home, "containers.conf.d", "*.conf"))
		if err != nil {
			return nil, err
		}
		files = append(append(files, filepath.Join(home, "containers.conf")), dropIns...)
	}
	return files, nil
}

// podmanList is a setting that replaces podman's built-in list of runtimes, and so has to
// repeat that list.
type podmanList struct {
	key string
	own []string
}

// podmanLists returns the lists that runch belongs to, with the built-in runtimes of podman
// 4.3 to 6.0. runch does not belong to runtime_supports_nocgroups.
func podmanLists() []podmanList {
	return []podmanList{
		{"runtime_supports_json", []string{"crun", "runc", "kata", "runsc", "youki", "krun"}},
		{"runtime_supports_kvm", []string{"kata", "kata-runtime", "kata-qemu", "kata-fc", "krun"}},
	}
}

// installPodman writes the drop-in. Its lists include those of the files that it overrides.
func installPodman(s source, w Want) (edited, error) {
	files, err := podmanFiles(s.host)
	if err != nil {
		return edited{}, err
	}
	own := podman().file(s.host)
	before, err := s.host.readAll(slices.DeleteFunc(files, func(file string) bool {
		return filepath.Dir(file) == filepath.Dir(own) && file >= own
	}))
	if err != nil {
		return edited{}, err
	}
	now, err := decode(s.before)
	if err != nil {
		return edited{}, err
	}
	isDefault := whether(w.Default, text(now, "engine", "runtime") == runtimeName)
	return dropIn(s, "podman", podmanConf(w.Program, isDefault, before))
}

// removePodman removes the drop-in. podman does not end a container whose runtime it no
// longer knows, and loses track of it.
func removePodman(s source, program string) (edited, error) {
	e, err := removeDropIn("podman")(s, program)
	e.notes = []string{"containers that podman made with runch are out of its hands: runch list shows them, runch delete --force ends them"}
	return e, err
}

// podmanConf returns the drop-in's content below the marker. before has the values of the
// files that podman reads before the drop-in.
func podmanConf(program string, isDefault bool, before table) string {
	var b strings.Builder
	b.WriteString("\n[engine]\n")
	if isDefault {
		fmt.Fprintf(&b, "runtime = \"%s\"\n", runtimeName)
	}
	b.WriteString("# Each list replaces podman's own, so the others stay in it.\n")
	for _, list := range podmanLists() {
		names := list.with(at(before, "engine", list.key))
		fmt.Fprintf(&b, "%s = [\"%s\"]\n", list.key, strings.Join(names, `", "`))
	}
	fmt.Fprintf(&b, "\n[engine.runtimes]\n%s = [\"%s\"]\n", runtimeName, program)
	return b.String()
}

// with returns the list with runch in it. set is the value in other files: an array of
// names, which podman 5 adds to its built-in list if the array contains {append = true}.
func (l podmanList) with(set any) []string {
	var names []string
	elements, isSet := set.([]any)
	appended := !isSet
	for _, element := range elements {
		switch e := element.(type) {
		case string:
			names = append(names, e)
		case table:
			appended = appended || e["append"] == true
		}
	}
	if appended {
		names = append(slices.Clone(l.own), names...)
	}
	if !slices.Contains(names, runtimeName) {
		names = append(names, runtimeName)
	}
	return names
}

// validatePodman runs a podman with temporary storage and state of its own, which reads the
// file and asks the runtime for its version.
func validatePodman(ctx context.Context, v *Version, content []byte) error {
	t, err := decode(content)
	if err != nil {
		return err
	}
	program := fmt.Sprint(asList(at(t, "engine", "runtimes", runtimeName))...)
	if engine, ok := t["engine"].(table); ok {
		// By default podman would open the locks of the host's podman, which are in shared
		// memory and made for that one's settings.
		engine["lock_type"], engine["events_logger"] = "file", "none"
	}
	private, err := toml.Marshal(t)
	if err != nil {
		return err
	}
	return withDir(func(dir string) error {
		got, err := podmanRuntime(ctx, v, dir, private)
		if err != nil {
			return err
		}
		if got != program {
			return fmt.Errorf("it would call %s, not %s", got, program)
		}
		return nil
	})
}

// podmanRuntime returns the path that podman would execute for runch. All files of that
// podman are in dir.
func podmanRuntime(ctx context.Context, v *Version, dir string, conf []byte) (string, error) {
	file := filepath.Join(dir, "containers.conf")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		return "", err
	}
	args := []string{
		"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs",
		"--network-config-dir", filepath.Join(dir, "networks"),
	}
	if os.Geteuid() == 0 {
		// An ordinary user's podman needs its usual tmpdir, which has the pid of the process
		// that keeps the user namespace.
		args = append(args, "--tmpdir", filepath.Join(dir, "tmp"))
	}
	args = append(args, "--runtime", runtimeName, "info", "--format", "{{.Host.OCIRuntime.Path}}")
	out, err := output(ctx, append(os.Environ(), "CONTAINERS_CONF="+file), v.Path, args...)
	return strings.TrimSpace(out), err
}

// asList returns a value as an array, nil if it is none.
func asList(value any) []any {
	list, _ := value.([]any)
	return list
}

// lookAtPodman reads the files that podman reads. Of a runtime's paths podman uses the first
// that exists.
func lookAtPodman(_ context.Context, h Host, _ *Version) (Configured, error) {
	files, err := podmanFiles(h)
	if err != nil {
		return Configured{}, err
	}
	t, err := h.readAll(files)
	if err != nil {
		return Configured{}, err
	}
	c := Configured{Default: text(t, "engine", "runtime") == runtimeName}
	for _, program := range asList(at(t, "engine", "runtimes", runtimeName)) {
		name, _ := program.(string)
		if full, err := h.path(name); err == nil && exists(full) {
			c.Program = name
			break
		}
	}
	for _, list := range podmanLists() {
		if c.Program != "" && !slices.Contains(asList(at(t, "engine", list.key)), any(runtimeName)) {
			c.Lacks = append(c.Lacks, list.key)
		}
	}
	return c, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
