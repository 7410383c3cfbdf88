package agent

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeNetNS makes the network namespace of the containers, with its loopback
// up, and binds it to path.
func makeNetNS(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o400) // #nosec G304 -- a constant
	if err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	made := make(chan error, 1)
	go func() { made <- bindNetNS(path) }()
	return <-made
}

// bindNetNS makes the namespace with the calling goroutine's thread, and brings
// that back: it may be the process's first one, which never ends, and by which
// libcontainer tells the agent's namespace from a container's.
func bindNetNS(path string) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer home.Close() //nolint:errcheck // only a handle
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("make network namespace: %w", err)
	}
	err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	if err != nil {
		err = fmt.Errorf("make network namespace: bind: %w", err)
	} else {
		err = loopbackUp()
	}
	// #nosec G115 -- a file descriptor fits an int
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("return to own network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

// adoptNetNS makes the network namespace of the process pid that of the
// containers, which makeNetNS made.
func adoptNetNS(pid int, path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("adopt network namespace: %w", err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", pid), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("adopt network namespace: bind: %w", err)
	}
	return nil
}

// loopbackUp brings lo up in the calling thread's network namespace.
func loopbackUp() (err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(req))); errno != 0 { // #nosec G103 -- x/sys has no call for it
		return fmt.Errorf("bring up loopback: %w", errno)
	}
	return nil
}
