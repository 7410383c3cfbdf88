package callers

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

const runchPath = "/usr/local/bin/runch"

// yes and no return the values that the flag --default can have.
func yes() *bool { b := true; return &b }
func no() *bool  { b := false; return &b }

// golden compares content with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: -what it has, +what was made:\n%s", file, diff)
	}
}

// machine returns a host whose root is a temporary directory with these files.
func machine(t *testing.T, files map[string]string) Host {
	t.Helper()
	h := Host{Root: t.TempDir()}
	for name, content := range files {
		full := filepath.Join(h.Root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// tree returns what is below a host's root: files with their content, directories without.
func tree(t *testing.T, h Host) map[string]string {
	t.Helper()
	all := make(map[string]string)
	root := os.DirFS(h.Root)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[name+"/"] = ""
			return err
		}
		content, err := fs.ReadFile(root, name)
		all[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// install makes and applies a plan, and gives the file's content.
func install(t *testing.T, c *Caller, h Host, w Want) []byte {
	t.Helper()
	p, err := c.Install(t.Context(), h, w)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p)
	content, err := h.read(p.File)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func remove(t *testing.T, c *Caller, h Host) {
	t.Helper()
	p, err := c.Remove(t.Context(), h, runchPath)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p)
}

func apply(t *testing.T, p *Plan) {
	t.Helper()
	if !p.Changes() {
		return
	}
	if err := p.Apply(); err != nil {
		t.Fatal(err)
	}
}

// For every caller, on a host without its files: a second install changes nothing, and
// remove leaves the host as it was.
func TestInstallTwiceAndRemove(t *testing.T) {
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			h := machine(t, map[string]string{"etc/hostname": "x\n"})
			before := tree(t, h)
			first := install(t, c, h, Want{Program: runchPath})
			golden(t, c.Name, first)
			again, err := c.Install(t.Context(), h, Want{Program: runchPath})
			if err != nil || again.Changes() || again.Diff() != "" {
				t.Errorf("a second time changes %q, %v", again.Diff(), err)
			}
			golden(t, c.Name+".default", install(t, c, h, Want{Program: runchPath, Default: yes()}))
			kept := install(t, c, h, Want{Program: "/opt/runch"})
			golden(t, c.Name+".moved", kept)
			if back := install(t, c, h, Want{Program: runchPath, Default: no()}); string(back) != string(first) {
				t.Errorf("without the default it is %s", back)
			}
			install(t, c, h, Want{Program: runchPath, Default: yes()})
			remove(t, c, h)
			if diff := cmp.Diff(before, tree(t, h)); diff != "" {
				t.Errorf("after its removal: -before, +after:\n%s", diff)
			}
			if p, err := c.Remove(t.Context(), h, runchPath); err != nil || p.Changes() {
				t.Errorf("to remove it again changes %q, %v", p.Diff(), err)
			}
		})
	}
}

func TestLookTellsWhatIsInstalled(t *testing.T) {
	for _, c := range []*Caller{podman(), crio(), docker()} {
		t.Run(c.Name, func(t *testing.T) {
			h := machine(t, map[string]string{runchPath[1:]: ""})
			look := func() Configured {
				got, err := c.look(t.Context(), h, nil)
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
			if got := look(); got.Program != "" {
				t.Errorf("on a host without it there is %+v", got)
			}
			install(t, c, h, Want{Program: runchPath})
			if diff := cmp.Diff(Configured{Program: runchPath}, look()); diff != "" {
				t.Error(diff)
			}
			install(t, c, h, Want{Program: runchPath, Default: yes()})
			if diff := cmp.Diff(Configured{Program: runchPath, Default: true}, look()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatOthersWroteStays(t *testing.T) {
	for _, c := range All() {
		for name, content := range foreign() {
			if !strings.HasPrefix(name, c.Name+" ") {
				continue
			}
			t.Run(name, func(t *testing.T) {
				h := machine(t, map[string]string{c.file(Host{}): content})
				if _, err := c.Install(t.Context(), h, Want{Program: runchPath}); !errors.Is(err, ErrForeign) {
					t.Errorf("install says %v", err)
				}
				if _, err := c.Remove(t.Context(), h, runchPath); !errors.Is(err, ErrForeign) {
					t.Errorf("remove says %v", err)
				}
			})
		}
	}
}

// foreign returns files in which a runtime runch was configured by hand.
func foreign() map[string]string {
	return map[string]string{
		"podman by hand":     "[engine.runtimes]\nrunch = [\"/opt/runch\"]\n",
		"podman empty":       "",
		"crio by hand":       "[crio.runtime.runtimes.runch]\nruntime_path = \"/opt/runch\"\n",
		"containerd by hand": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runch]\nruntime_type = \"io.containerd.runc.v2\"\n",
		"docker wrapper":     `{"runtimes": {"runch": {"path": "/opt/wrapper"}}}`,
		"docker shim":        `{"runtimes": {"runch": {"runtimeType": "io.containerd.runch.v1"}}}`,
	}
}

func TestFilesThatAreBroken(t *testing.T) {
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			content := "{[\n"
			if c.Name == "podman" || c.Name == "crio" {
				content = marker(c.Name) + content
			}
			h := machine(t, map[string]string{c.file(Host{}): content})
			_, err := c.Install(t.Context(), h, Want{Program: runchPath})
			if err == nil || !strings.Contains(err.Error(), c.file(Host{})) {
				t.Errorf("install says %v", err)
			}
		})
	}
}

func TestProgramsPath(t *testing.T) {
	for _, path := range []string{"runch", "", `/a"b`, "/a\\b", "/a\nb", "/a\xffb"} {
		if _, err := podman().Install(t.Context(), machine(t, nil), Want{Program: path}); err == nil {
			t.Errorf("%q is taken", path)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]Version{
		"podman version 4.3.1\n": {Number: "4.3.1", major: 4, minor: 3},
		"containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3\n":         {Number: "1.6.20", major: 1, minor: 6},
		"containerd github.com/containerd/containerd/v2 v2.1.0 061792f0ecf3684fb30a3a0eb0063d1": {Number: "2.1.0", major: 2, minor: 1},
		"Docker version 20.10.24+dfsg1, build 297e128\n":                                        {Number: "20.10.24", major: 20, minor: 10},
		"crio version 1.30.0\nGitCommit: 1.2.3\n":                                               {Number: "1.30.0", major: 1, minor: 30},
	} {
		got, err := parseVersion("", out)
		if err != nil || *got != want {
			t.Errorf("%q gives %+v, %v", out, got, err)
		}
	}
	if _, err := parseVersion("/bin/x", "no number"); err == nil {
		t.Error("no number is a version")
	}
}
