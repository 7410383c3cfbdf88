package callers

import (
	"strings"
	"testing"
)

// Names that other files have in podman's lists stay in them.
func TestPodmanListsOfOtherFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file, content, want string
	}{
		"the administrator's":        {"etc/containers/containers.conf", `runtime_supports_json = ["mine"]`, `runtime_supports_json = ["mine", "runch"]`},
		"an earlier drop-in's":       {"etc/containers/containers.conf.d/a.conf", `runtime_supports_kvm = ["mine"]`, `runtime_supports_kvm = ["mine", "runch"]`},
		"one with runch in it":       {"etc/containers/containers.conf.d/a.conf", `runtime_supports_kvm = ["runch", "mine"]`, `runtime_supports_kvm = ["runch", "mine"]`},
		"one for podman 5":           {"etc/containers/containers.conf", `runtime_supports_kvm = ["mine", {append = true}]`, `"kata-fc", "krun", "mine", "runch"]`},
		"an empty one":               {"etc/containers/containers.conf", `runtime_supports_kvm = []`, `runtime_supports_kvm = ["runch"]`},
		"a later drop-in's does not": {"etc/containers/containers.conf.d/z.conf", `runtime_supports_kvm = ["mine"]`, `"kata-fc", "krun", "runch"]`},
	} {
		t.Run(name, func(t *testing.T) {
			h := machine(t, map[string]string{c.file: "[engine]\n" + c.content + "\n"})
			if got := install(t, podman(), h, Want{Program: runchPath}); !strings.Contains(string(got), c.want+"\n") {
				t.Errorf("it lacks %s:\n%s", c.want, got)
			}
		})
	}
}

func TestLookAtPodman(t *testing.T) {
	h := machine(t, map[string]string{
		"opt/runch":                               "",
		"etc/containers/containers.conf":          "[engine.runtimes]\nrunch = [\"/nowhere/runch\", \"/opt/runch\"]\n",
		"etc/containers/containers.conf.d/z.conf": "[engine]\nruntime_supports_kvm = [\"runch\"]\n",
	})
	got, err := podman().look(t.Context(), h, nil)
	if err != nil || got.Program != "/opt/runch" || strings.Join(got.Lacks, " ") != "runtime_supports_json" {
		t.Errorf("it has %+v, %v", got, err)
	}
}

func TestPodmanOfAnOrdinaryUser(t *testing.T) {
	h := machine(t, nil)
	h.ConfigHome = "/home/user/.config"
	install(t, podman(), h, Want{Program: runchPath})
	if _, ok := tree(t, h)["home/user/.config/containers/containers.conf.d/runch.conf"]; !ok {
		t.Errorf("there is %v", tree(t, h))
	}
	remove(t, podman(), h)
	if _, ok := tree(t, h)["home/user/.config/"]; !ok || len(tree(t, h)) != 4 {
		t.Errorf("there is %v", tree(t, h))
	}
}
