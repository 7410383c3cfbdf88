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

// buildTestGuest puts the suite's guest over the image's init: the kernel unpacks
// one archive after the other, so the modules are those of the image.
func buildTestGuest(t *testing.T, image *Image) string {
	t.Helper()
	dir := t.TempDir()
	body, err := os.ReadFile(findTestGuest(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(image.Initramfs)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initramfs")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// An archive begins at a multiple of four bytes.
	if _, err := out.Write(append(first, make([]byte, (4-len(first)%4)%4)...)); err != nil {
		t.Fatal(err)
	}
	archive := cpio.NewWriter(out)
	header := &cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(body))}
	if err := archive.WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// findTestGuest gives the suite's guest: the one that RUNCH_TESTGUEST names, for
// hosts without Go, or one that it builds in dir.
func findTestGuest(t *testing.T, dir string) string {
	t.Helper()
	if program := os.Getenv("RUNCH_TESTGUEST"); program != "" {
		return program
	}
	program := filepath.Join(dir, "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "runch/hypervisor/vmmtest/testguest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test guest: %v\n%s", err, out)
	}
	return program
}
