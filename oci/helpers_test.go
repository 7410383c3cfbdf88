package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// testEnvironment is a host with neither SELinux nor AppArmor, on which every
// path is a network namespace, and which has the devices of low numbers.
func testEnvironment() *environment {
	return &environment{
		hostname:   "host",
		domainname: "example.org",
		checkNetNS: func(string) error { return nil },
		hasDevice:  func(_ string, n deviceNumber) bool { return n.minor < 256 },
	}
}

// testSpec is the default spec with a cgroup namespace, whatever the host has.
func testSpec() *specs.Spec {
	spec := DefaultSpec()
	spec.Linux.Namespaces = defaultNamespaces(true)
	return spec
}

// ptr is a pointer to v.
func ptr[T any](v T) *T { return &v }

// writeBundle makes a bundle with that config.json and an empty rootfs.
func writeBundle(t *testing.T, config []byte) string {
	t.Helper()
	dir := realTempDir(t)
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ConfigName), config, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// realTempDir is a temporary directory without symbolic links in its path.
func realTempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// requireRoot skips a test that needs a namespace or a device node of its own.
func requireRoot(t *testing.T) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
