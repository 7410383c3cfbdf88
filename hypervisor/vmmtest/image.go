package vmmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// Image is a kernel and an initramfs.
type Image struct {
	Kernel, Initramfs string
}

// findImage gives runch's guest image or skips the test.
func findImage(t *testing.T) *Image {
	t.Helper()
	dir := os.Getenv("RUNCH_GUEST")
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), "bin", "guest")
	}
	image := &Image{Kernel: filepath.Join(dir, "kernel"), Initramfs: filepath.Join(dir, "initramfs")}
	if _, err := os.Stat(image.Kernel); err != nil {
		t.Skipf("no guest image, so no VM is tested: %v; `make guest` builds one, RUNCH_GUEST names another", err)
	}
	return image
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// buildTestGuest builds the suite's guest and packs it as an initramfs.
func buildTestGuest(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "runch/hypervisor/vmmtest/testguest") // #nosec G204 -- fixed words
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test guest: %v\n%s", err, out)
	}
	body, err := os.ReadFile(program) // #nosec G304 -- just built
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initramfs")
	out, err := os.Create(path) // #nosec G304 -- in the test's directory
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // the archive's own Close is checked
	archive := cpio.NewWriter(out)
	for _, entry := range []struct {
		header cpio.Header
		body   []byte
	}{
		{cpio.Header{Name: "dev", Mode: cpio.TypeDir | 0o755}, nil},
		// The kernel opens init's standard streams before init can mount devtmpfs.
		{cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(body))}, body},
	} {
		if err := archive.WriteHeader(&entry.header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(entry.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
