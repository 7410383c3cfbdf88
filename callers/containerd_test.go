package callers

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// containerdFiles returns config.toml files in the various forms that occur.
func containerdFiles() map[string]string {
	return map[string]string{
		"debian": `version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
`,
		"kubeadm": `# kept
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc" # why
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
`,
		"version 3": `version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  # The default is runc.
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
`,
		"version 1": "disabled_plugins = [\"cri\"]\n#root = \"/var/lib/containerd\"\n",
		"two tables": `version = 3
[plugins."x".containerd]
  default_runtime_name = "theirs"
[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = 'crun'
[plugins."z"]
  default_runtime_name = "theirs too"
`,
		"no last newline": "version = 2\nroot = \"/srv\"",
	}
}

func TestContainerdConfig(t *testing.T) {
	for name, content := range containerdFiles() {
		t.Run(name, func(t *testing.T) {
			h := machine(t, map[string]string{containerdFile: content})
			file := "containerd." + strings.ReplaceAll(name, " ", "-")
			golden(t, file, install(t, containerd(), h, Want{Program: runchPath}))
			got := install(t, containerd(), h, Want{Program: runchPath, Default: yes()})
			golden(t, file+".default", got)
			again, err := containerd().Install(t.Context(), h, Want{Program: runchPath})
			if err != nil || again.Changes() {
				t.Errorf("a second time changes %q, %v", again.Diff(), err)
			}
			values, err := decode(got)
			if err != nil || findContainerd(values).Program != runchPath || !findContainerd(values).Default {
				t.Errorf("it has %+v, %v", findContainerd(values), err)
			}
			remove(t, containerd(), h)
			if after, err := h.read(containerdFile); err != nil || string(after) != content {
				t.Errorf("it was %q and is %q, %v", content, after, err)
			}
		})
	}
}

func TestContainerdSaysThatNothingReadsIt(t *testing.T) {
	h := machine(t, map[string]string{containerdFile: containerdFiles()["version 1"]})
	p, err := containerd().Install(t.Context(), h, Want{Program: runchPath})
	if err != nil || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "disabled_plugins") {
		t.Errorf("it says %v, %v", p.Notes, err)
	}
}

// If install cannot find the line to change, it leaves the file alone and tells the user
// what to add.
func TestContainerdConfigOfAnotherForm(t *testing.T) {
	for content, want := range map[string]string{
		"version = 2\n[\"plugins\".\"io.containerd.grpc.v1.cri\".\"containerd\"]\nsnapshotter = \"x\"\n":          `BinaryName = "` + runchPath + `"`,
		"version = 2\nplugins.\"io.containerd.grpc.v1.cri\" = {containerd = {default_runtime_name = \"runc\"}}\n": `set default_runtime_name = "runch"`,
	} {
		h := machine(t, map[string]string{containerdFile: content})
		_, err := containerd().Install(t.Context(), h, Want{Program: runchPath, Default: yes()})
		if !errors.Is(err, errUnsafe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", content, err)
		}
	}
}

func TestContainerdBlockWithoutEnd(t *testing.T) {
	h := machine(t, map[string]string{containerdFile: "version = 2\n" + blockBegin + "[a]\n"})
	for _, plan := range []func() (*Plan, error){
		func() (*Plan, error) { return containerd().Install(t.Context(), h, Want{Program: runchPath}) },
		func() (*Plan, error) { return containerd().Remove(t.Context(), h, runchPath) },
	} {
		if _, err := plan(); err == nil || !strings.Contains(err.Error(), "END runch") {
			t.Errorf("it says %v", err)
		}
	}
}

// A new file has a version that the host's containerd can read.
func TestContainerdVersionOfANewFile(t *testing.T) {
	for major, want := range map[int]string{0: "version = 2\n", 1: "version = 2\n", 2: "version = 3\n", 3: "version = 3\n"} {
		s := source{version: &Version{major: major}}
		if major == 0 {
			s.version = nil
		}
		e, err := installContainerd(s, Want{Program: runchPath})
		if err != nil || !strings.Contains(string(e.after), want) {
			t.Errorf("containerd %d gets %s, %v", major, e.after, err)
		}
	}
}

// For any config.toml, install adds runch and keeps all other values, and remove restores
// the file byte by byte.
func FuzzContainerdConfig(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(containerdFiles())) {
		f.Add(containerdFiles()[name])
	}
	f.Fuzz(func(t *testing.T, content string) {
		if strings.Contains(content, "runch") {
			return
		}
		made, err := installContainerd(source{before: []byte(content)}, Want{Program: runchPath, Default: yes()})
		if err != nil {
			return
		}
		got, err := decode(made.after)
		if err != nil {
			t.Fatalf("%q: %v", made.after, err)
		}
		if found := findContainerd(got); !reflect.DeepEqual(found, Configured{Program: runchPath, Default: true}) {
			t.Fatalf("%q has %+v", made.after, found)
		}
		gone, err := removeContainerd(source{before: made.after}, runchPath)
		if err != nil || string(gone.after) != content {
			t.Fatalf("it was %q and is %q, %v", content, gone.after, err)
		}
	})
}

// Up to containerd 1.7 a file's runtimes replace the built-in ones.
func TestContainerdKeepsRunc(t *testing.T) {
	for name, kept := range map[string]bool{"debian": true, "version 1": true, "no last newline": true, "kubeadm": false, "version 3": false} {
		h := machine(t, map[string]string{containerdFile: containerdFiles()[name]})
		got := string(install(t, containerd(), h, Want{Program: runchPath}))
		if strings.Contains(got, "runtimes.runc]\n  runtime_type") != kept {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestContainerdCheckDefault(t *testing.T) {
	for content, want := range map[string]string{
		"[plugins.cri.containerd]": "",
		"[plugins.cri.containerd]\ndefault_runtime_name = \"runc\"\n[plugins.cri.containerd.runtimes.runc]":  "",
		"[plugins.cri.containerd]\ndefault_runtime_name = \"runc\"\n[plugins.cri.containerd.runtimes.runch]": "would be \"runc\"",
	} {
		dump, err := decode([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		if err := checkDefault(dump); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", content, err)
		}
	}
}
