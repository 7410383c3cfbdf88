package storage

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzPathInRootfs looks for a destination in a rootfs whose links are the
// guest's: it is found in the rootfs, or not at all.
func FuzzPathInRootfs(f *testing.F) {
	for _, s := range [][3]string{
		{"/etc/hosts", "etc", "../../../../etc"},
		{"/a/b/c", "a", "/"},
		{"/a/../../b", "a", ".."},
		{"/proc/self/root", "proc", "/proc"},
		{"/x", "x", "x"},
		{"/a/b", "a", "/proc/self/cwd/.."},
		{"//./a//..", "a", "./a/a"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	outside := f.TempDir()
	rootfs := filepath.Join(outside, "rootfs")
	if err := os.MkdirAll(filepath.Join(rootfs, "etc", "dir"), 0o750); err != nil {
		f.Fatal(err)
	}
	root, err := os.OpenFile(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = root.Close() })
	f.Fuzz(func(t *testing.T, destination, name, target string) {
		link := filepath.Join(rootfs, filepath.Base(filepath.Clean("/"+name)))
		if os.Symlink(target, link) != nil {
			return // it is there, or is no name for a file
		}
		defer os.Remove(link) //nolint:errcheck // the next run finds it otherwise
		file, err := openInView(root, destination)
		if err != nil || file == nil {
			return
		}
		defer file.Close()
		where, err := os.Readlink("/proc/self/fd/" + strconv.FormatUint(uint64(file.Fd()), 10))
		if err != nil {
			t.Fatal(err)
		}
		if where != rootfs && !strings.HasPrefix(where, rootfs+"/") {
			t.Errorf("%q with %s -> %q leads to %s", destination, link, target, where)
		}
	})
}
