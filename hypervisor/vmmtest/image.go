package vmmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"runch/hypervisor/vmmtest/guestimage"
)

// Image is a kernel and an initramfs.
type Image struct {
	Kernel, Initramfs string
}

// findImage returns runch's guest image, or skips the test if there is none.
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

// buildTestGuest makes an initramfs of the image with the suite's guest as init, and returns
// its path.
func buildTestGuest(t *testing.T, image *Image) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "initramfs")
	if err := guestimage.WithInit(path, image.Initramfs, findTestGuest(t, dir)); err != nil {
		t.Fatal(err)
	}
	return path
}

// findTestGuest returns the path of the suite's guest: RUNCH_TESTGUEST, for hosts without
// Go, or one that it builds in dir.
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
