package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeImage writes modules that hold nothing but their information, and their list.
func fakeImage(t *testing.T, modules map[string]string) (list string) {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	for name, info := range modules {
		p := filepath.Join(dir, name+".ko")
		if err := os.WriteFile(p, []byte("\x7fELF junk\x00"+strings.ReplaceAll(info, " ", "\x00")+"\x00more"), 0o600); err != nil {
			t.Fatal(err)
		}
		lines.WriteString(p + "\n")
	}
	list = filepath.Join(dir, "list")
	if err := os.WriteFile(list, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestModprobe(t *testing.T) {
	list := fakeImage(t, map[string]string{
		"failover":     "name=failover depends=",
		"net_failover": "depends=failover name=net_failover",
		"virtio-net":   "alias=virtio:d00000001v* depends=net_failover,builtin",
		"overlay":      "alias=fs-overlay depends=",
		"a":            "depends=b",
		"b":            "depends=a",
	})
	for _, tc := range []struct {
		alias string
		want  []string
		err   error
	}{
		{alias: virtioNet, want: []string{"failover", "net_failover", "virtio-net"}},
		{alias: "virtio_net", want: []string{"failover", "net_failover", "virtio-net"}},
		{alias: "fs-overlay", want: []string{"overlay"}},
		{alias: "overlay", want: []string{"overlay"}},
		{alias: "net-pf-10", err: errNoModule},
		{alias: "", err: errNoModule},
		{alias: "a", err: errTooMany},
	} {
		t.Run(tc.alias, func(t *testing.T) {
			var got []string
			err := modprobe(list, tc.alias, func(p string) error {
				got = append(got, strings.TrimSuffix(filepath.Base(p), ".ko"))
				return nil
			})
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestModprobeStopsAtWhatFails(t *testing.T) {
	list := fakeImage(t, map[string]string{"failover": "depends=", "net_failover": "depends=failover"})
	loads := 0
	err := modprobe(list, "net_failover", func(string) error {
		loads++
		return os.ErrInvalid
	})
	if !errors.Is(err, os.ErrInvalid) || loads != 1 {
		t.Errorf("%v after %d loads", err, loads)
	}
	if err := modprobe(filepath.Join(t.TempDir(), "none"), "x", nil); !errors.Is(err, errNoModule) {
		t.Errorf("no list: %v", err)
	}
}

func TestIsModprobe(t *testing.T) {
	if alias, ok := IsModprobe([]string{modprobeSelf, "-q", "--", "fs-overlay"}); !ok || alias != "fs-overlay" {
		t.Errorf("%q, %v", alias, ok)
	}
	for _, args := range [][]string{nil, {"/init"}, {"/init", "nokaslr", "a", "b"}, {"x", "-q", "--"}} {
		if _, ok := IsModprobe(args); ok {
			t.Errorf("%q is the kernel's modprobe", args)
		}
	}
}

func FuzzModinfo(f *testing.F) {
	f.Add([]byte("\x00alias=fs-overlay\x00depends=\x00"), "alias")
	f.Add([]byte("\x00alias="), "alias")
	f.Fuzz(func(_ *testing.T, module []byte, key string) { _ = modinfo(module, key) })
}
