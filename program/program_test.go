package program

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	own, plain := filepath.Join(dir, "runch-test-program"), filepath.Join(dir, "plain")
	for name, mode := range map[string]os.FileMode{own: 0o755, plain: 0o644} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ path, name, want string }{
		{dir, filepath.Base(own), own},
		{"", filepath.Base(own), ""},
		{"", own, own},
		{dir, filepath.Base(plain), ""},
		{"", plain, ""},
		{"", "env", "/usr/bin/env"},
		{".", filepath.Base(own), ""},
		{dir, "", ""},
	} {
		t.Setenv("PATH", test.path)
		if test.path == "." {
			t.Chdir(dir)
		}
		if found := Find(test.name); found != test.want {
			t.Errorf("with PATH=%q %q is %q, not %q", test.path, test.name, found, test.want)
		}
	}
}
