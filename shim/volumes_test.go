package shim

import (
	"os"
	"path/filepath"
	"testing"

	"runch/agentproto"
	"runch/oci"
	"runch/storage"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestVolumesOf(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount")
	}
	dir := t.TempDir()
	sealed := filepath.Join(dir, "sealed")
	for _, d := range []string{"data", "sealed"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("sealed", sealed, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(sealed, unix.MNT_DETACH) })
	var binds []oci.Bind
	var mounts []storage.Mount
	bind := func(source string, b oci.Bind) {
		f, err := os.Open(filepath.Join(dir, source))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		binds, mounts = append(binds, b), append(mounts, storage.Mount{Path: b.GuestSource, File: f})
	}
	bind("data", oci.Bind{GuestSource: "mounts/0/data"})
	bind("data", oci.Bind{GuestSource: "mounts/1/data", ReadOnly: true})
	bind("sealed", oci.Bind{GuestSource: "mounts/2/sealed"})
	bind("sealed", oci.Bind{GuestSource: "mounts/3/sealed", ReadOnly: true})
	bind("file", oci.Bind{GuestSource: "mounts/4/file"})
	bind("data", oci.Bind{GuestSource: "mounts/5/data", IDMap: &oci.IDMap{}})
	bind("data", oci.Bind{GuestSource: "mounts/6/data"})
	got, err := volumesOf("s", binds, mounts, []string{"mounts/6/data/below", "mounts/1/data2"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("got %v", got)
	}
	data, tmpfs := got[0].GetIdentity(), got[3].GetIdentity()
	want := []*agentproto.Volume{
		{Path: "s/mounts/0/data", Identity: data},
		{Path: "s/mounts/1/data", Identity: data, ReadOnly: true},
		{Path: "s/mounts/2/sealed", Identity: tmpfs + ":ro"},
		{Path: "s/mounts/3/sealed", Identity: tmpfs, ReadOnly: true},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || data == tmpfs {
		t.Error(diff)
	}
}
