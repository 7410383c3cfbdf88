package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadModuleList(t *testing.T) {
	many := strings.Repeat("/lib/a.ko\n", maxModules)
	for _, tc := range []struct {
		name, text string
		want       []string
		bad        bool
	}{
		{name: "empty"},
		{name: "order is kept", text: "/lib/b.ko\n/lib/a.ko\n", want: []string{"/lib/b.ko", "/lib/a.ko"}},
		{name: "blank lines", text: "\n/lib/a.ko\n\n", want: []string{"/lib/a.ko"}},
		{name: "no newline at the end", text: "/lib/a.ko", want: []string{"/lib/a.ko"}},
		{name: "relative", text: "lib/a.ko\n", bad: true},
		{name: "leaves its directory", text: "/lib/../etc/x\n", bad: true},
		{name: "too many", text: many + "/lib/b.ko\n", bad: true},
		{name: "line too long", text: "/" + strings.Repeat("a", 1<<17), bad: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readModuleList(strings.NewReader(tc.text))
			if tc.bad != (err != nil) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tc.want, got); !tc.bad && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoadModulesNamesWhatFails(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "modules")
	if err := loadModules(list); err != nil {
		t.Errorf("a missing list: %v", err)
	}
	gone := filepath.Join(dir, "gone.ko")
	if err := os.WriteFile(list, fmt.Appendln(nil, gone), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := loadModules(list); err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("error %v does not name %s", err, gone)
	}
}
