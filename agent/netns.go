package agent

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"runch/namespace"

	"golang.org/x/sys/unix"
)

// makeNetNS makes the network namespace of the containers, with its loopback
// up, and binds it to path.
func makeNetNS(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	namespace.Do(func() (restored bool) {
		restored, err = bindNetNS(path)
		return restored
	})
	return err
}

// bindNetNS makes the namespace with the calling thread, and brings that back.
func bindNetNS(path string) (restored bool, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, fmt.Errorf("open own network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("make network namespace: %w", err)
	}
	err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	if err != nil {
		err = fmt.Errorf("make network namespace: bind: %w", err)
	} else {
		err = loopbackUp()
	}
	return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil, err
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
