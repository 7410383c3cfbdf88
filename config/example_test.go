package config

import (
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The file that is installed for people to edit has every setting, with its default, and sets none.
func TestExampleHasEverySettingAtItsDefault(t *testing.T) {
	text, err := os.ReadFile("config.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, settings, err := Load(files(t, string(text), nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if s.Source != "default" {
			t.Errorf("the example sets %s", s.Key)
		}
	}

	o := files(t, regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(string(text), "$1"), nil)
	got, settings, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if s.Source != o.File {
			t.Errorf("the example does not have %s", s.Key)
		}
	}
	want := Default()
	// These depend on the host and the user.
	want.MaxMemoryMiB, want.MaxCPUs, want.LogDir = 16<<10, 8, "/var/log/runch"
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}
