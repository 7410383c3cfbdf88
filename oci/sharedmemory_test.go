package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A tmpfs that is bound to /dev/shm becomes one of the guest's.
func TestSharedMemoryOf(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount")
	}
	dir := t.TempDir()
	shm, full := filepath.Join(dir, "shm"), filepath.Join(dir, "full")
	for _, path := range []string{shm, full} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("shm", path, "tmpfs", 0, "size=2m,mode=1777,gid=5"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	}
	if err := os.Mkdir(filepath.Join(full, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(shm, &st); err != nil {
		t.Fatal(err)
	}
	got, err := sharedMemoryOf(shm, specs.Mount{Destination: "/dev/shm/"})
	if err != nil {
		t.Fatal(err)
	}
	want := &SharedMemory{
		Name: fmt.Sprintf("%d-%d", unix.Major(st.Dev), unix.Minor(st.Dev)), Destination: "/dev/shm/", Size: 2 << 20, Mode: 0o1777, GID: 5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, tt := range map[string]struct{ source, destination string }{
		"another place":             {shm, "/cache"},
		"something is in it":        {full, "/dev/shm"},
		"a directory of one":        {filepath.Join(full, "below"), "/dev/shm"},
		"a directory of another":    {dir, "/dev/shm"},
		"the host's own, as a bind": {"/dev/shm", "/dev/shm"},
	} {
		if got, err := sharedMemoryOf(tt.source, specs.Mount{Destination: tt.destination}); got != nil || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// The host's own /dev/shm is shared like any other directory, also while nothing is in it.
func TestHostsSharedMemoryIsShared(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount")
	}
	var got *SharedMemory
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with this function
		err = unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
		}
		if err == nil {
			err = unix.Mount("shm", shmDestination, "tmpfs", 0, "size=2m")
		}
		if err == nil {
			got, err = sharedMemoryOf(shmDestination, specs.Mount{Destination: shmDestination})
		}
	}()
	<-done
	if got != nil || err != nil {
		t.Errorf("%v, %v; want nothing in its place", got, err)
	}
}
