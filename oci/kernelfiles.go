package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelFilesystems are those whose files are interfaces of the kernel, by their magic
// numbers. The host's would show the container another kernel than its own, and
// virtiofs does not pass on the ioctl(2) and poll(2) calls that they are used with.
var kernelFilesystems = map[int64]string{
	unix.BINFMTFS_MAGIC:      "binfmt_misc",
	unix.BPF_FS_MAGIC:        "bpf",
	unix.CGROUP2_SUPER_MAGIC: "cgroup2",
	unix.CGROUP_SUPER_MAGIC:  "cgroup",
	configfsMagic:            "configfs",
	unix.DEBUGFS_MAGIC:       "debugfs",
	unix.DEVPTS_SUPER_MAGIC:  "devpts",
	unix.EFIVARFS_MAGIC:      "efivarfs",
	unix.HUGETLBFS_MAGIC:     "hugetlbfs",
	mqueueMagic:              "mqueue",
	unix.NSFS_MAGIC:          "nsfs",
	unix.PROC_SUPER_MAGIC:    "proc",
	unix.PSTOREFS_MAGIC:      "pstore",
	unix.SECURITYFS_MAGIC:    "securityfs",
	unix.SELINUX_MAGIC:       "selinuxfs",
	unix.SYSFS_MAGIC:         "sysfs",
	unix.TRACEFS_MAGIC:       "tracefs",
}

// Magic numbers that linux/magic.h does not have, from the filesystems' sources.
const (
	configfsMagic = 0x62656570
	mqueueMagic   = 0x19800202
)

// checkKernelFiles refuses sources on the host kernel's own filesystems, and
// directories of device nodes. It accepts sockets and FIFOs, which a shared directory
// may hold as well. Processes in the container can use them among themselves, but do
// not reach the host's processes through them.
func checkKernelFiles(source string, st *unix.Stat_t) error {
	var sfs unix.Statfs_t
	if err := unix.Statfs(source, &sfs); err != nil {
		return &fs.PathError{Op: "statfs", Path: source, Err: err}
	}
	if name, ok := kernelFilesystems[sfs.Type]; ok {
		return fmt.Errorf("%s of the host's kernel cannot be shared with a VM; mount one of type %s instead", name, name)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && isDeviceDir(source, st) {
		return errors.New("the host's device nodes cannot be shared with a VM")
	}
	return nil
}

// isDeviceDir tells whether source is a directory of the filesystem on /dev. That is
// found by its device number, since devtmpfs has the magic number of tmpfs.
func isDeviceDir(source string, st *unix.Stat_t) bool {
	var dev, root unix.Stat_t
	if unix.Stat("/dev", &dev) != nil || unix.Stat("/", &root) != nil {
		return false
	}
	if st.Dev != dev.Dev {
		return false
	}
	if dev.Dev == root.Dev {
		return st.Ino == dev.Ino
	}
	resolved, err := filepath.EvalSymlinks(source)
	if err != nil {
		resolved = source
	}
	return resolved != "/dev/shm" && !strings.HasPrefix(resolved, "/dev/shm/")
}
