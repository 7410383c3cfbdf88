package callers

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFileKeepsItsModeAndItsLink(t *testing.T) {
	h := machine(t, map[string]string{"srv/daemon.json": "{}\n"})
	file := filepath.Join(h.Root, "srv/daemon.json")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(h.Root, "etc/docker"), 0o755); err != nil {
		t.Fatal(err)
	}
	// An absolute symbolic link is resolved below the host's root.
	link := filepath.Join(h.Root, "etc/docker/daemon.json")
	if err := os.Symlink("/srv/daemon.json", link); err != nil {
		t.Fatal(err)
	}
	install(t, docker(), h, Want{Program: runchPath})
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 || info.Size() < 10 {
		t.Errorf("the file is %+v, %v", info, err)
	}
	if target, err := os.Readlink(link); err != nil || target != "/srv/daemon.json" {
		t.Errorf("the link is %q, %v", target, err)
	}
}

func TestDirectoriesOfOthersStay(t *testing.T) {
	h := machine(t, map[string]string{"etc/containers/containers.conf.d/other.conf": ""})
	install(t, podman(), h, Want{Program: runchPath})
	remove(t, podman(), h)
	got := tree(t, h)
	if _, ok := got["etc/containers/containers.conf.d/other.conf"]; !ok || len(got) != 5 {
		t.Errorf("there is %v", got)
	}
}

func TestAFileThatCannotBeWrittenIsAsItWas(t *testing.T) {
	h := machine(t, map[string]string{"etc/docker": "a file in place of the directory"})
	p, err := docker().Install(t.Context(), h, Want{Program: runchPath})
	if err == nil {
		err = p.Apply()
	}
	if err == nil {
		t.Error("it was written")
	}
	if got := tree(t, h); len(got) != 3 {
		t.Errorf("there is %v", got)
	}
}
