package agent

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

func TestMountPointsBelongToTheContainersRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to give files away")
	}
	outside, rootfs := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(rootfs, "etc"), 0o500),
		os.Symlink("/etc", filepath.Join(rootfs, "link")),
		os.Symlink("../../../../.."+outside, filepath.Join(rootfs, "out")),
		os.Symlink("/nowhere", filepath.Join(rootfs, "dangling")),
		os.WriteFile(filepath.Join(outside, "hosts"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	bind := func(source, destination string) *configs.Mount {
		return &configs.Mount{Device: "bind", Flags: unix.MS_BIND, Source: source, Destination: destination}
	}
	makeMountPoints(&configs.Config{Rootfs: rootfs, Mounts: []*configs.Mount{
		{Device: "proc", Destination: "/proc"},
		{Device: "tmpfs", Destination: "/dev"},
		{Device: "devpts", Destination: "/dev/pts"},
		bind(filepath.Join(outside, "hosts"), "/etc/hosts"),
		bind(filepath.Join(outside, "hosts"), "/link/new/hosts"),
		bind(outside, "/a/b"),
		bind(outside, "/out/x"),
		bind(outside, "/dangling/x"),
		{Device: "tmpfs", Destination: "../../.." + outside + "/up"},
	}}, 1234, 1235)
	var made []string
	err := filepath.Walk(rootfs, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 1234 && st.Gid == 1235 {
			made = append(made, info.Mode().String()+" "+path[len(rootfs):])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"drwxr-xr-x /a", "drwxr-xr-x /a/b", "drwxr-xr-x /dev", "drwxr-xr-x /proc",
		"-rw-r--r-- /etc/hosts", "drwxr-xr-x /etc/new", "-rw-r--r-- /etc/new/hosts",
		"drwxr-xr-x " + outside + "/up",
	} {
		if !slices.Contains(made, want) {
			t.Errorf("%s was not made", want)
		}
	}
	if slices.Contains(made, "drwxr-xr-x /dev/pts") {
		t.Error("a mount point was made below another mount")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside of the root are %v, %v", entries, err)
	}
}
