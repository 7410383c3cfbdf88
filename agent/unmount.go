package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// unmountTimeout is how long it may take to unmount a container's files: a share
// whose server is gone would never answer.
const unmountTimeout = 5 * time.Second

// unmountShare unmounts the share of a container that has ended. The kernel
// mounted the host's mounts in the shared directory when they were first used;
// as long as they are mounted, virtiofsd keeps their files open.
func (a *Agent) unmountShare(share string) {
	if share == "" {
		return
	}
	done := make(chan error, 1)
	go func() { done <- unmountBelow(agentproto.GuestSharedDir, share) }()
	var err error
	select {
	case err = <-done:
	case <-time.After(unmountTimeout):
		err = fmt.Errorf("not within %v: %w", unmountTimeout, unix.ETIMEDOUT)
	}
	if err != nil {
		a.log.Debug("unmount", "share", share, "error", err)
	}
}

// unmountBelow unmounts everything at and below dir/name, the newest first. It
// follows no symbolic links: a container may have put one there.
func unmountBelow(dir, name string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Join(dir, name)))
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	if len(mounts) == 0 {
		return nil
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer func() { _ = unix.Close(root) }()
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if err := unmountAt(root, dir, m.Mountpoint); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// unmountAt detaches the mount at path, which is below dir, open as root. One
// that is gone already is no error.
func unmountAt(root int, dir, path string) error {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	fd, err := unix.Openat2(root, rel, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Unmount(fmt.Sprintf("/proc/self/fd/%d", fd), unix.MNT_DETACH)
}
