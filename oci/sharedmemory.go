package oci

import (
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// shmDestination is where programs look for shared memory: shm_overview(7).
const shmDestination = "/dev/shm"

// SharedMemory is a file system in memory that a caller has mounted for a container's
// /dev/shm, or for that of all containers of a pod. The guest mounts its own instead:
// what its processes share has to be in its memory.
type SharedMemory struct {
	// Name is the same for all containers that are to share it.
	Name string
	// Destination is the path in the container.
	Destination string
	// Size is its bound in bytes, 0 for the kernel's default.
	Size int64
	// Mode, UID and GID are those of its root.
	Mode, UID, GID uint32
}

// sharedMemoryOf gives what the guest mounts in place of a bind to /dev/shm: nil unless
// the source is the root of a tmpfs and empty. The host's own /dev/shm is not replaced:
// it is shared like any other directory.
func sharedMemoryOf(source string, m specs.Mount) (*SharedMemory, error) {
	if filepath.Clean(m.Destination) != shmDestination {
		return nil, nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(source, &fs); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: source, Err: err}
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return nil, nil
	}
	st, err := statOf(source)
	if err != nil {
		return nil, err
	}
	above, err := statOf(filepath.Join(source, ".."))
	if err != nil {
		return nil, err
	}
	// A host may have no /dev/shm.
	if hosts, err := statOf(shmDestination); err == nil && hosts.Dev == st.Dev {
		return nil, nil
	}
	if st.Dev == above.Dev || !isEmpty(source) {
		return nil, nil
	}
	return &SharedMemory{
		Name: fmt.Sprintf("%d-%d", unix.Major(st.Dev), unix.Minor(st.Dev)), Destination: m.Destination,
		Size: int64(fs.Blocks) * fs.Bsize, // #nosec G115 -- a file system's size is an off_t
		Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
	}, nil
}

func statOf(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st, nil
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}
