package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// files writes a main file and drop-ins and gives the options that read them.
func files(t *testing.T, main string, dropIns map[string]string) Options {
	t.Helper()
	dir := t.TempDir()
	o := Options{File: filepath.Join(dir, "config.toml"), DropIn: filepath.Join(dir, "config.d")}
	if err := os.Mkdir(o.DropIn, 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, o.File, main)
	for name, text := range dropIns {
		write(t, filepath.Join(o.DropIn, name), text)
	}
	return o
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestDefaultsNeedNoSetting(t *testing.T) {
	got, settings, err := Load(files(t, "", nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Error(diff)
	}
	for _, s := range settings {
		if s.Source != "default" {
			t.Errorf("%s is from %s", s.Key, s.Source)
		}
	}
}

func TestEachSourceIsOverTheOneBefore(t *testing.T) {
	o := files(t, "memory = \"1G\"\ncpus = 2\noverhead = \"200M\"\nboot_timeout = \"90s\"\naccel = \"tcg\"\n", map[string]string{
		"20-b.toml": "cpus = 4\noverhead = \"300M\"\nboot_timeout = \"2m\"\n",
		"10-a.toml": "cpus = 3\n",
		"ignored":   "nonsense",
	})
	o.Getenv = env(map[string]string{"RUNCH_OVERHEAD": "400M", "RUNCH_BOOT_TIMEOUT": "3m"})
	o.Flags = map[string]string{"boot_timeout": "4m"}
	c, settings, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if c.MemoryMiB != 1024 || c.CPUs != 4 || c.OverheadMiB != 400 || c.BootTimeout != 4*time.Minute || c.Accel != "tcg" {
		t.Errorf("%+v", c)
	}
	want := map[string]string{
		"memory": o.File, "accel": o.File, "cpus": filepath.Join(o.DropIn, "20-b.toml"),
		"overhead": "RUNCH_OVERHEAD", "boot_timeout": "--boot-timeout", "kernel": "default",
	}
	for _, s := range settings {
		if source, ok := want[s.Key]; ok && s.Source != source {
			t.Errorf("%s is from %s, not %s", s.Key, s.Source, source)
		}
	}
}

func TestANamedFileHasToExist(t *testing.T) {
	_, _, err := Load(Options{File: filepath.Join(t.TempDir(), "none.toml"), DropIn: t.TempDir()})
	if !errors.Is(err, errInvalid) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestKernelParams(t *testing.T) {
	c, _, err := Load(files(t, `kernel_params = ["a=b", "c"]`, nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a=b", "c"}, c.KernelParams); diff != "" {
		t.Error(diff)
	}
}

func TestRelativePathsAreFromTheirSource(t *testing.T) {
	o := files(t, "kernel = \"vmlinuz\"\n", nil)
	o.Flags = map[string]string{"initramfs": "initrd"}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(o.File), "vmlinuz"); c.Kernel != want {
		t.Errorf("kernel %s, not %s", c.Kernel, want)
	}
	if want := filepath.Join(here, "initrd"); c.Initramfs != want {
		t.Errorf("initramfs %s, not %s", c.Initramfs, want)
	}
}

func TestRefusalsNameSourceAndKey(t *testing.T) {
	for text, want := range map[string]string{
		"memory = \"lots\"":        "memory: \"lots\" is not a size",
		"memory = \"1M\"":          "memory: \"1M\" is not between 16M and 16T",
		"cpus = 0":                 "cpus: \"0\" is not a number from 1 to 255",
		"cpus = 1.5":               "cpus: the value is neither a string nor a whole number",
		"accel = \"hvf\"":          "accel: \"hvf\" is not one of auto, kvm, tcg",
		"boot_timeout = \"1\"":     "boot_timeout: \"1\" is not a time",
		"kernel_params = [1]":      "kernel_params: 1 is not a word",
		"memroy = \"1G\"":          "unknown key \"memroy\"",
		"[table]\nmemory = \"1G\"": "unknown key \"table\"",
		"memory = ":                "config.toml",
	} {
		o := files(t, text, nil)
		_, _, err := Load(o)
		if !errors.Is(err, errInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), o.File) {
			t.Errorf("%q gives %v, without %q", text, err, want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q gives more than a line: %v", text, err)
		}
	}
	o := files(t, "", nil)
	o.Getenv = env(map[string]string{"RUNCH_CPUS": "x"})
	if _, _, err := Load(o); err == nil || !strings.Contains(err.Error(), "RUNCH_CPUS: cpus") {
		t.Errorf("a bad variable gives %v", err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("memory = \"1G\"\ncpus = 2\nkernel_params = [\"a\"]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "config.toml")
		write(t, path, string(data))
		c, _, err := Load(Options{File: path, DropIn: t.TempDir()})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q gives more than a line: %v", data, err)
			}
			return
		}
		if c.CPUs < 1 || c.MemoryMiB < minMemoryMiB || c.BootTimeout < time.Second {
			t.Errorf("%q was let in: %+v", data, c)
		}
	})
}

// A program may be named without a path; then it is looked for when it is needed.
func TestFallbackRuntimeIsANameOrAPath(t *testing.T) {
	for text, want := range map[string]string{"runc": "runc", "/opt/crun": "/opt/crun", "./runc": "DIR/runc", "": ""} {
		o := files(t, "fallback_runtime = \""+text+"\"\n", nil)
		got, _, err := Load(o)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Replace(want, "DIR", filepath.Dir(o.File), 1); got.FallbackRuntime != want {
			t.Errorf("%q is %q, not %q", text, got.FallbackRuntime, want)
		}
	}
	if _, err := Default().Annotate(map[string]string{annotationPrefix + "fallback_runtime": "runc"}); err == nil {
		t.Error("an annotation can set it")
	}
}
