package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"runch/config"
	"runch/guest"
	"runch/hypervisor"
	"runch/shimproto"
)

func TestPIDFileIsTheNumberAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	if err := writePIDFile(path, 12345); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.Symlink(victim, filepath.Join(dir, ".pid")); err != nil {
		t.Fatal(err)
	}
	if err := writePIDFile(path, 12345); err != nil {
		t.Errorf("with a link in its way: %v", err)
	}
	if _, err := os.Stat(victim); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was written where a link leads: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "12345" {
		t.Errorf("pid-file %q, %v", data, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left beside it: %v, %v", entries, err)
	}
	if err := writePIDFile("", 1); err != nil {
		t.Errorf("no pid-file: %v", err)
	}
	if err := writePIDFile(filepath.Join(dir, "no/such/dir/pid"), 1); err == nil {
		t.Error("a pid-file that cannot be written is no error")
	}
}

func TestLogsOfFailuresAreKeptAndBounded(t *testing.T) {
	box, logs := t.TempDir(), t.TempDir()
	if kept := keepLogs(logs, box, "c"); kept != "" {
		t.Errorf("a log of a VM that was never started: %s", kept)
	}
	for name, text := range map[string]string{shimproto.VMMLog: "vmm\n", shimproto.ConsoleLog: "console\n"} {
		if err := os.WriteFile(filepath.Join(box, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	others := filepath.Join(logs, "dpkg.log")
	if err := errors.Join(os.WriteFile(others, nil, 0o600), os.Chtimes(others, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	var last string
	for i := range keptLogs + 5 {
		last = keepLogs(logs, box, fmt.Sprint("c", i))
	}
	if data, err := os.ReadFile(last); err != nil || string(data) != "vmm\nconsole\n" {
		t.Errorf("kept %q, %v", data, err)
	}
	if words := logTail(last); words != "vmm; console" {
		t.Errorf("end of the logs %q", words)
	}
	entries, err := os.ReadDir(logs)
	if err != nil || len(entries) != keptLogs+1 {
		t.Errorf("%d logs are kept, %v", len(entries), err)
	}
	if _, err := os.Stat(others); err != nil {
		t.Errorf("another program's log: %v", err)
	}
}

func TestALogIsNotQuotedTwice(t *testing.T) {
	box, logs := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(box, shimproto.VMMLog), []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := describeLogs("the VM ended", logs, box, "c"); !strings.HasSuffix(got, ".log and ends: one; two)") {
		t.Errorf("what the reason lacks: %q", got)
	}
	got := describeLogs("the VM ended: one; two", logs, box, "c")
	if !strings.HasPrefix(got, " (the console's log is "+logs) || !strings.HasSuffix(got, ".log)") {
		t.Errorf("text of the reason: %q", got)
	}
}

func TestFindImage(t *testing.T) {
	dir := t.TempDir()
	kernel, initramfs := filepath.Join(dir, "kernel"), filepath.Join(dir, "initramfs")
	r := &Runtime{Config: &config.Config{Kernel: kernel, Initramfs: initramfs}}
	if _, err := r.FindImage(hypervisor.AccelKVM); err == nil || !strings.Contains(err.Error(), "find the guest's") {
		t.Errorf("an image that is not there: %v", err)
	}
	for _, f := range []string{kernel, initramfs} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if image, err := r.FindImage(hypervisor.AccelKVM); err != nil || image.Kernel != kernel || image.Initramfs != initramfs {
		t.Errorf("image %v, %v", image, err)
	}
	if err := os.Truncate(kernel, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.FindImage(hypervisor.AccelKVM); err == nil || !strings.Contains(err.Error(), "kernel") {
		t.Errorf("an empty kernel: %v", err)
	}
	// Without a configuration and an image, the error says how to build one.
	if _, err := (&Runtime{Config: &config.Config{}}).FindImage(hypervisor.AccelTCG); err == nil || !strings.Contains(err.Error(), "runch guest build") {
		t.Errorf("no image at all: %v", err)
	}
}

// A copy of the program somewhere else boots the image that is installed. An installed
// program boots the image that came with it.
func TestImagePlaces(t *testing.T) {
	for exe, want := range map[string][]string{
		"/home/u/runch":        {"/home/u/guest", "/home/share/runch/guest", "/usr/local/share/runch/guest", "/usr/share/runch/guest"},
		"/usr/local/bin/runch": {"/usr/local/bin/guest", "/usr/local/share/runch/guest", "/usr/share/runch/guest"},
		"/usr/bin/runch":       {"/usr/bin/guest", "/usr/share/runch/guest", "/usr/local/share/runch/guest"},
	} {
		if got := imagePlaces(exe); !slices.Equal(got, want) {
			t.Errorf("%s: %q", exe, got)
		}
	}
	here, there := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(there, guest.InitramfsName), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if dir, err := imageIn([]string{here, there}); err != nil || dir != there {
		t.Errorf("found %q, %v", dir, err)
	}
	if _, err := imageIn([]string{here}); !errors.Is(err, ErrNoImage) || !strings.Contains(err.Error(), here) {
		t.Errorf("no image: %v", err)
	}
}

func TestTheTranslatorGetsTheKernelThatIsUnpacked(t *testing.T) {
	dir := t.TempDir()
	packed, unpacked := filepath.Join(dir, "kernel"), filepath.Join(dir, "vmlinux")
	if got := kernelIn(dir, hypervisor.AccelTCG); got != packed {
		t.Errorf("an image without: %s", got)
	}
	if err := os.WriteFile(unpacked, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for accel, want := range map[hypervisor.Accel]string{hypervisor.AccelTCG: unpacked, hypervisor.AccelKVM: packed} {
		if got := kernelIn(dir, accel); got != want {
			t.Errorf("%s: %s", accel, got)
		}
	}
}

func TestALogsTailIsOneHarmlessLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := strings.Repeat("filler\n", 1000) + "one\ntwo \x1b[2J\r\n\n\u009bthree\x00\nfour\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := logTail(path), "two ?[2J; ?three?; four"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestALogsTailIsTheKernelsReason(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	trace := strings.Repeat("[    3.1]  ret_from_fork+0x31/0x50\n", 30)
	if err := os.WriteFile(path, []byte("[    1.0] booting\n[    3.0] Kernel panic - not syncing: no init\n"+trace), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := logTail(path), "[    3.0] Kernel panic - not syncing: no init"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
