package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestLoad(t *testing.T) {
	dir := writeBundle(t, mustJSON(t, testSpec()))
	t.Chdir(dir)
	for _, name := range []string{"", ".", dir, filepath.Join("rootfs", "..")} {
		b, err := Load(name)
		if err != nil {
			t.Errorf("Load(%q): %v", name, err)
			continue
		}
		if b.Dir != dir || b.Rootfs != filepath.Join(dir, "rootfs") || b.Spec.Hostname != "runc" {
			t.Errorf("Load(%q): %+v", name, b)
		}
	}
}

func TestLoadThroughSymlink(t *testing.T) {
	dir := writeBundle(t, mustJSON(t, testSpec()))
	link := filepath.Join(realTempDir(t), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	b, err := Load(link)
	if err != nil {
		t.Fatal(err)
	}
	if b.Dir != dir {
		t.Errorf("bundle %s, want %s", b.Dir, dir)
	}
}

func TestLoadIgnoresUnknownProperties(t *testing.T) {
	config := strings.Replace(string(mustJSON(t, testSpec())), "{", `{"future": {"a": [1]},`, 1)
	if _, err := Load(writeBundle(t, []byte(config))); err != nil {
		t.Error(err)
	}
}

func TestLoadRefusesConfig(t *testing.T) {
	good := string(mustJSON(t, testSpec()))
	for _, test := range []struct{ name, config, want string }{
		{"empty", "", "read %s: the file is empty"},
		{"blank", " \n", "read %s: the file is empty"},
		{"cut off", good[:len(good)/2], "read %s: the JSON value is cut off: unexpected EOF"},
		{"null", "null", "read %s: config cannot be null"},
		{"trailing", "{}x", "read %s: unexpected data after the JSON value, at byte 2"},
		{"two values", "{}\n{}", "read %s: unexpected data after the JSON value, at byte 4"},
		{"syntax", "{\"ociVersion\" 1}", "read %s: invalid character '1' after object key, at byte 15"},
		{"list", "[]", "read %s: json: cannot unmarshal array into Go value of type specs.Spec, at byte 2"},
		{"type", `{"process": {"args": "sh"}}`, "read %s: process.args: a JSON string does not fit here"},
		{"large", `{"hostname": "` + strings.Repeat("x", maxFile) + `"}`, "read %s: larger than 16777216 bytes"},
		{"no process", "{}", "process: process property must not be empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := writeBundle(t, []byte(test.config))
			want := strings.Replace(test.want, "%s", filepath.Join(dir, ConfigName), 1)
			_, err := Load(dir)
			if err == nil || err.Error() != want {
				t.Errorf("error\n%v\nwant\n%s", err, want)
			}
		})
	}
}

func TestLoadRefusesFiles(t *testing.T) {
	good := mustJSON(t, testSpec())
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string
		is     error
	}{
		{"no bundle", func(t *testing.T, dir string) { remove(t, dir) }, "open bundle @: no such file or directory", os.ErrNotExist},
		{
			"bundle is a file", func(t *testing.T, dir string) { remove(t, dir); write(t, dir, "") },
			"open bundle @: not a directory", unix.ENOTDIR,
		},
		{
			"no config", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, ConfigName)) },
			"JSON specification file config.json not found: @/config.json: no such file or directory", os.ErrNotExist,
		},
		{
			"config is a directory", func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, ConfigName))
				mkdir(t, filepath.Join(dir, ConfigName))
			},
			"open @/config.json: not a regular file", nil,
		},
		{
			"config is a FIFO", func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, ConfigName))
				if err := unix.Mkfifo(filepath.Join(dir, ConfigName), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			"open @/config.json: not a regular file", nil,
		},
		{
			"no rootfs", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "rootfs")) },
			"root.path: invalid rootfs: lstat @/rootfs: no such file or directory", os.ErrNotExist,
		},
		{
			"rootfs is a file", func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, "rootfs"))
				write(t, filepath.Join(dir, "rootfs"), "")
			},
			"root.path: invalid rootfs: @/rootfs is not a directory", nil,
		},
		{
			"rootfs is a symbolic link", func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, "rootfs"))
				mkdir(t, filepath.Join(dir, "real"))
				if err := os.Symlink("real", filepath.Join(dir, "rootfs")); err != nil {
					t.Fatal(err)
				}
			},
			"root.path: invalid rootfs: not an absolute path, or a symlink", nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := writeBundle(t, good)
			test.change(t, dir)
			_, err := Load(dir)
			want := strings.ReplaceAll(test.want, "@", dir)
			if err == nil || err.Error() != want {
				t.Errorf("error\n%v\nwant\n%s", err, want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
		})
	}
}

func TestLoadProcess(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"good", `{"args": ["id"], "cwd": "/"}`, ""},
		{"empty", "", "read process file: the file is empty"},
		{"null", "null", "process: process property must not be empty"},
		{"no args", `{"cwd": "/"}`, "process.args: args must not be empty"},
		{"type", `{"args": ["id"], "cwd": 7}`, "read process file: cwd: a JSON number does not fit here"},
		{"negative uid", `{"args": ["id"], "cwd": "/", "user": {"uid": -1}}`, "read process file: user.uid: a JSON number -1 does not fit here"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := LoadProcess(strings.NewReader(test.file))
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want == "" && p.Args[0] != "id":
				t.Errorf("process %+v", p)
			case test.want != "" && (err == nil || err.Error() != test.want):
				t.Errorf("error\n%v\nwant\n%s", err, test.want)
			}
		})
	}
}

func TestGuestProcess(t *testing.T) {
	p := &specs.Process{Args: []string{"id"}, SelinuxLabel: "a:b:c", ApparmorProfile: "p"}
	guest := GuestProcess(p)
	if guest.SelinuxLabel != "" || guest.ApparmorProfile != "" || guest.Args[0] != "id" {
		t.Errorf("guest's process %+v", guest)
	}
	if p.SelinuxLabel == "" || p.ApparmorProfile == "" {
		t.Error("the caller's process was changed")
	}
}

func TestUnknownCapabilities(t *testing.T) {
	p := &specs.Process{}
	if got := UnknownCapabilities(p); len(got) > 0 {
		t.Errorf("without capabilities: %v", got)
	}
	p.Capabilities = &specs.LinuxCapabilities{
		Bounding: []string{"CAP_KILL", "CAP_FUTURE"}, Effective: []string{"CAP_FUTURE"}, Inheritable: []string{"kill"},
		Permitted: []string{"CAP_BPF"}, Ambient: []string{"CAP_ANY"},
	}
	if diff := cmp.Diff([]string{"CAP_ANY", "CAP_FUTURE", "kill"}, UnknownCapabilities(p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}
