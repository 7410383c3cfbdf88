package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLocalNameServers(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct{ conf, want string }{
		"docker's":                 {"# made by docker\nnameserver 127.0.0.11\noptions ndots:0\n", "127.0.0.11"},
		"others beside it":         {"search a b\nnameserver 10.0.0.1\nnameserver 127.0.0.53 # local\n", "127.0.0.53"},
		"the container's own":      {"nameserver 127.0.0.1\nnameserver ::1\n", ""},
		"a fourth is never read":   {"nameserver 9.9.9.9\nnameserver 9.9.9.9\nnameserver 9.9.9.9\nnameserver 127.0.0.11\n", ""},
		"what is no address":       {"nameserver\nnameserver 127.0.0\n;nameserver 127.0.0.11\nnameservers 127.0.0.12\n", ""},
		"a line that never ends":   {"nameserver 127.0.0.11" + strings.Repeat("x", maxResolvConf), ""},
		"what comes after the end": {strings.Repeat("#\n", maxResolvConf/2) + "nameserver 127.0.0.11\n", ""},
	} {
		path := filepath.Join(dir, "resolv.conf")
		if err := os.WriteFile(path, []byte(tc.conf), 0o600); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range localNameServers(path) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", dir, fifo, filepath.Join(dir, "none")} {
		if got := localNameServers(path); got != nil {
			t.Errorf("%q: %v", path, got)
		}
	}
}
