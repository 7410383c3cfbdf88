package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"runch/oci"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mapIDs id-maps the tree, which must never have been attached: the kernel refuses to
// id-map a mount that was (mount_setattr(2)). source is for the error, which has
// runc's text.
func (t *mountTree) mapIDs(source string, m *oci.IDMap) error {
	ns, err := newUserNamespace(m)
	if err != nil {
		return fmt.Errorf("failed to create userns for %s id-mapping: %w", source, err)
	}
	defer ns.Close()
	flags := uint(unix.AT_EMPTY_PATH)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	err = unix.MountSetattr(t.fd, "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
	if err == nil {
		return nil
	}
	hint := ""
	switch {
	case errors.Is(err, unix.EINVAL):
		hint = " (maybe the filesystem used doesn't support idmap mounts on this kernel?)"
	case errors.Is(err, unix.EPERM):
		hint = " (is it id-mapped already, or a file system that was not mounted in this user namespace?)"
	}
	return fmt.Errorf("failed to set MOUNT_ATTR_IDMAP on %s: %w%s", source, err, hint)
}

// newUserNamespace makes a user namespace with these mappings and no process in it.
// The kernel makes one only for a process, so a process is started and killed here.
// This thread is its tracer and keeps it from running anything.
func newUserNamespace(m *oci.IDMap) (*os.File, error) {
	runtime.LockOSThread() // the process would run if its tracer ended
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"idmap"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: sysMappings(m.UIDs), GidMappings: sysMappings(m.GIDs),
		Ptrace: true,
	}})
	if err != nil {
		var failed *os.PathError
		if errors.As(err, &failed) {
			err = failed.Err // without the path: no caller has named this program
		}
		return nil, err
	}
	defer func() {
		_ = p.Kill()
		_, _ = p.Wait()
	}()
	ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(p.Pid), "ns/user"))
	if err != nil {
		return nil, fmt.Errorf("open the user namespace: %w", err)
	}
	return ns, nil
}

func sysMappings(mappings []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	list := make([]syscall.SysProcIDMap, len(mappings))
	for i, m := range mappings {
		list[i] = syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)}
	}
	return list
}
