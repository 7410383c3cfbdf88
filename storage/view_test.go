package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"runch/oci"

	"golang.org/x/sys/unix"
)

// samePlaceBody has volumes at the same destinations below a tmpfs, which are written in
// several ways. The last volume at each is visible, as in the guest.
func samePlaceBody(dir string) error {
	if err := SlaveMounts(); err != nil {
		return err
	}
	name, other := filepath.Join(dir, "rootfs/etc/name"), filepath.Join(dir, "hosts")
	empty, volume := filepath.Join(dir, "rootfs/data"), filepath.Join(dir, "volume")
	volumes := []oci.Bind{
		{Source: name, Destination: "/run/in/file", GuestSource: "mounts/0/name"},
		{Source: other, Destination: "/run//in/./file", GuestSource: "mounts/1/hosts"},
		{Source: empty, Destination: "/run/dir", GuestSource: "mounts/2/data"},
		{Source: volume, Destination: "/run//dir/", GuestSource: "mounts/3/volume"},
	}
	mounts, _, err := Clone(filepath.Join(dir, "rootfs"), volumes)
	if err != nil {
		return err
	}
	defer CloseMounts(mounts)
	if err := EnterView(filepath.Join(dir, "rootfs"), mounts, View{Binds: volumes, Tmpfs: []string{"/run"}}); err != nil {
		return err
	}
	return errors.Join(contains("/run/in/file", "bound"), contains("/run/dir/file", "volume"))
}

func TestVolumesAtTheSamePlace(t *testing.T) { inNamespaces(t, "same-place") }

// TestMountPointIsNoLink checks that a directory or a link is no mount point for a file.
func TestMountPointIsNoLink(t *testing.T) {
	dir := t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	volume, err := os.Create(filepath.Join(dir, "volume"))
	if err != nil {
		t.Fatal(err)
	}
	defer volume.Close()
	err = errors.Join(os.Mkdir(filepath.Join(dir, "dir"), 0o700), os.Symlink("volume", filepath.Join(dir, "link")))
	if err != nil {
		t.Fatal(err)
	}
	for dest, want := range map[string]error{"volume": nil, "new": nil, "dir": unix.EISDIR, "link": unix.ELOOP} {
		if err := mountPointFor(root, dest, volume); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", dest, err, want)
		}
	}
}
