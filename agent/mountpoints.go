package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// makeMountPoints makes the mount points that are missing in the root file system of a
// container with a user namespace, and gives them to its root user. libcontainer would make
// them as that user. In a directory without a write bit, as / often is, that takes a
// capability (CAP_DAC_OVERRIDE), but virtiofsd acts with the user's ids and without the
// capability, and fails. If makeMountPoints fails too, libcontainer tries again and reports why.
func makeMountPoints(config *configs.Config, uid, gid int) {
	root, err := os.OpenFile(config.Rootfs, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer root.Close()
	var mounted []string
	for _, m := range config.Mounts {
		dest := filepath.Clean("/" + m.Destination)
		if !isBelow(mounted, dest) {
			makeMountPoint(root, dest, isFile(m), uid, gid)
		}
		mounted = append(mounted, dest)
	}
}

// isBelow tells whether dest is below what is mounted, and so not in the root file system.
func isBelow(mounted []string, dest string) bool {
	for _, dir := range mounted {
		if strings.HasPrefix(dest, strings.TrimSuffix(dir, "/")+"/") {
			return true
		}
	}
	return false
}

// isFile tells whether a mount is that of a file.
func isFile(m *configs.Mount) bool {
	if !m.IsBind() {
		return false
	}
	st, err := os.Stat(m.Source)
	return err == nil && !st.IsDir()
}

// makeMountPoint makes what is missing of a path in the root, the directories above it first.
func makeMountPoint(root *os.File, dest string, file bool, uid, gid int) {
	for i := 1; i <= len(dest); i++ {
		if i < len(dest) && dest[i] != '/' {
			continue
		}
		if err := makeOne(root, dest[:i], file && i == len(dest), uid, gid); err != nil {
			return
		}
	}
}

// makeOne makes a directory or a file, if it is not there. Links are followed as a
// process with that root would.
func makeOne(root *os.File, path string, file bool, uid, gid int) error {
	at, err := securejoin.OpenatInRoot(root, path)
	if err == nil {
		return at.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent, err := securejoin.OpenatInRoot(root, filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	dir, name := int(parent.Fd()), filepath.Base(path)
	if file {
		err = unix.Mknodat(dir, name, unix.S_IFREG|0o644, 0)
	} else {
		err = unix.Mkdirat(dir, name, 0o755)
	}
	if err != nil {
		return err
	}
	return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}
