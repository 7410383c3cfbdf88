package lean

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// makefile stands in for Linux's: the configuration is what it is given, and the kernel an
// object file that holds what the real one would: who built it, when, and of what.
const makefile = `
allnoconfig:
	@cp $(KCONFIG_ALLCONFIG) $(O)/.config
	@if [ -e lost ]; then grep -v "$$(cat lost)" $(KCONFIG_ALLCONFIG) >$(O)/.config; fi
vmlinux:
	@if [ -e broken ]; then echo "broken.c: here is the mistake" >&2; exit 1; fi
	@mkdir -p $(O)/include/config
	@echo 'const char who[] = "$(KBUILD_BUILD_USER) $(KBUILD_BUILD_TIMESTAMP) $(STRANGE)";' >$(O)/who.c
	@echo "  CC      who.o"
	@gcc -c -o $(O)/vmlinux $(O)/who.c
	@echo 6.12.0-runch >$(O)/include/config/kernel.release
	@echo kernel/fs/fuse/virtiofs.ko >$(O)/modules.builtin
	@echo "0 T _text" >$(O)/System.map
	@echo built >>$(LOG)
`

// fakeSource makes a source tree with these files in addition.
func fakeSource(t *testing.T, more map[string]string) (dir, log string) {
	t.Helper()
	dir, log = t.TempDir(), filepath.Join(t.TempDir(), "log")
	files := map[string]string{"Makefile": strings.ReplaceAll(makefile, "$(LOG)", log), "Kconfig": ""}
	for name, text := range more {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, log
}

// fakeTools adds stand-ins for programs that Build requires but the fake source does not
// use, since they may not be installed.
func fakeTools(t *testing.T) {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"flex", "bison", "bc"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/false\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", os.Getenv("PATH")+":"+bin)
}

// sh runs a command line in a directory.
func sh(t *testing.T, dir, line string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", line)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return out
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAKernelIsBuiltOnceForItsInputs(t *testing.T) {
	fakeTools(t)
	t.Setenv("STRANGE", "of the caller's environment")
	source, log := fakeSource(t, nil)
	o := Options{Source: source, Cache: filepath.Join(t.TempDir(), "cache"), Epoch: time.Unix(1700000000, 0)}
	var said bytes.Buffer
	o.Progress = &said
	dir, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	kernel := read(t, dir, "boot/vmlinux-6.12.0-runch")
	if want := "runch Tue Nov 14 22:13:20 UTC 2023 \x00"; !strings.Contains(kernel, want) {
		t.Errorf("the kernel does not hold %q", want)
	}
	if got := read(t, dir, "lib/modules/6.12.0-runch/modules.builtin"); got != "kernel/fs/fuse/virtiofs.ko\n" {
		t.Errorf("modules.builtin: %q", got)
	}
	if got := read(t, dir, "boot/config-6.12.0-runch"); got != string(fragment) {
		t.Error("the configuration is not the fragment")
	}
	read(t, dir, "boot/System.map-6.12.0-runch")
	if again, err := Build(t.Context(), o); err != nil || again != dir {
		t.Errorf("the second time: %s, %v", again, err)
	}
	if got := read(t, log); got != "built\n" {
		t.Errorf("built %q", got)
	}
	if !strings.Contains(said.String(), "lean kernel: built before, in "+dir) {
		t.Errorf("said %q", said.String())
	}
	// In another directory the same inputs make the same bytes; other inputs make others.
	o.Cache = t.TempDir()
	if dir, err = Build(t.Context(), o); err != nil || read(t, dir, "boot/vmlinux-6.12.0-runch") != kernel {
		t.Errorf("another kernel than in the other place, %v", err)
	}
	o.Epoch = time.Unix(1800000000, 0)
	if dir, err = Build(t.Context(), o); err != nil || read(t, dir, "boot/vmlinux-6.12.0-runch") == kernel {
		t.Errorf("the same kernel for another time, %v", err)
	}
	if entries, err := os.ReadDir(o.Cache); err != nil || len(entries) != 2 {
		t.Errorf("the cache holds %v, %v", entries, err)
	}
}

func TestASourceMayBePacked(t *testing.T) {
	fakeTools(t)
	source, _ := fakeSource(t, nil)
	packed := sh(t, filepath.Dir(source), "tar -cJ "+filepath.Base(source))
	dir := t.TempDir()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	if err := w.WriteHeader(&tar.Header{Name: "./usr/src/linux-source-6.12.tar.xz", Mode: 0o644, Size: int64(len(packed)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	_, err := w.Write(packed)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"linux.tar.xz": packed, "data.tar": data.Bytes(), "debian-binary": []byte("2.0\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, dir, "ar -q linux.deb debian-binary data.tar 2>&1")
	for _, file := range []string{"linux.tar.xz", "linux.deb"} {
		kernel, err := Build(t.Context(), Options{Source: filepath.Join(dir, file), Cache: t.TempDir()})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		read(t, kernel, "boot/vmlinux-6.12.0-runch")
	}
}

func TestAFailedBuildSaysWhyAndLeavesNothing(t *testing.T) {
	fakeTools(t)
	broken, _ := fakeSource(t, map[string]string{"broken": ""})
	lost, _ := fakeSource(t, map[string]string{"lost": "CONFIG_VIRTIO_FS=y"})
	empty := t.TempDir()
	file := filepath.Join(empty, "file")
	if err := os.WriteFile(file, []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(empty, "file.deb")
	if err := os.WriteFile(deb, []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		broken:            "make vmlinux: exit status 2: broken.c: here is the mistake",
		lost:              "this source does not take CONFIG_VIRTIO_FS=y",
		empty:             "is not the source of Linux: it has no Kconfig",
		file:              "unpack " + file,
		deb:               deb + " is not a package of Linux's source",
		"/dev/null":       "is neither a file nor a directory",
		empty + "/nosuch": "no such file",
	} {
		cache := t.TempDir()
		_, err := Build(t.Context(), Options{Source: source, Cache: cache})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
		if left, err := os.ReadDir(cache); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", source, left, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	source, _ := fakeSource(t, nil)
	if _, err := Build(ctx, Options{Source: source, Cache: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	t.Setenv("PATH", "/nowhere")
	if _, err := Build(t.Context(), Options{Source: source, Cache: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "these programs are missing: make, gcc") {
		t.Errorf("without programs: %v", err)
	}
}

func TestLostOptions(t *testing.T) {
	fragment := []byte("# Why.\nCONFIG_A=y\nCONFIG_B=\"x\"\n# CONFIG_C is not set\n# CONFIG_D is not set\n\n")
	for config, want := range map[string]string{
		"CONFIG_A=y\nCONFIG_B=\"x\"\n# CONFIG_C is not set\n": "[]",
		"CONFIG_A=m\nCONFIG_B=\"x\"\nCONFIG_D=y\n":            "[CONFIG_A=y # CONFIG_D is not set]",
		"": `[CONFIG_A=y CONFIG_B="x"]`,
	} {
		if got := fmt.Sprint(lostOptions(fragment, []byte(config))); got != want {
			t.Errorf("of %q: %s, want %s", config, got, want)
		}
	}
}

// The fragment must keep what runch itself needs, whatever else is removed from it.
func TestTheFragmentHasWhatRunchNeeds(t *testing.T) {
	lines := strings.Split(string(fragment), "\n")
	seen := map[string]bool{}
	for _, line := range lines {
		if name, _, ok := strings.Cut(line, "="); ok && strings.HasPrefix(line, "CONFIG_") {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
	}
	for _, name := range []string{"PVH", "VIRTIO_PCI", "VIRTIO_FS", "VIRTIO_VSOCKETS", "VIRTIO_CONSOLE", "VIRTIO_MEM", "SECCOMP_FILTER", "INIT_ON_ALLOC_DEFAULT_ON", "CPU_MITIGATIONS"} {
		if !seen["CONFIG_"+name] {
			t.Errorf("CONFIG_%s is missing", name)
		}
	}
}
