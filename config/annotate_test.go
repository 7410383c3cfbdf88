package config

import (
	"errors"
	"strings"
	"testing"
)

func TestAnnotate(t *testing.T) {
	c, _, err := Load(files(t, "annotations = [\"hypervisor\"]\n", nil))
	if err != nil {
		t.Fatal(err)
	}
	changed, err := c.Annotate(map[string]string{"org.runch.hypervisor": "qemu", "io.kubernetes.cri.x": "y"})
	if err != nil || changed.Hypervisor != "qemu" || c.Hypervisor != "auto" {
		t.Errorf("%+v, %v; before it was %q", changed, err, c.Hypervisor)
	}
	for name, want := range map[string]string{
		"org.runch.accel":  "does not allow it",
		"org.runch.kernel": "no such setting",
		"org.runch.":       "no such setting",
	} {
		if _, err := c.Annotate(map[string]string{name: "tcg"}); !errors.Is(err, errInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, without %q", name, err, want)
		}
	}
	if _, err := c.Annotate(map[string]string{"org.runch.hypervisor": "xen"}); err == nil || !strings.Contains(err.Error(), "xen") {
		t.Errorf("a driver that is none gives %v", err)
	}
	o := files(t, "annotations = [\"kernel\"]\n", nil)
	if _, _, err := Load(o); err == nil || !strings.Contains(err.Error(), "annotations") {
		t.Errorf("a setting that annotations may not change gives %v", err)
	}
}
