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

// mapIDs shows the owners of the tree's files as others. It can only be done
// here: a mount that was ever attached keeps its ids. source is for the error,
// which has runc's text.
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

// newUserNamespace makes a user namespace with these mappings that no process
// is in. The kernel has none without a process: one is made, which a tracer,
// this thread, keeps from running anything, and which is ended here.
func newUserNamespace(m *oci.IDMap) (*os.File, error) {
	runtime.LockOSThread() // a tracer that ends lets go
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"idmap"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: sysMappings(m.UIDs), GidMappings: sysMappings(m.GIDs),
		Ptrace: true,
	}})
	if err != nil {
		var failed *os.PathError
		if errors.As(err, &failed) {
			err = failed.Err // the program is none that anybody asked for
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
