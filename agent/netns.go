package agent

import (
	"fmt"
	"os"

	"runch/namespace"

	"golang.org/x/sys/unix"
)

// makeNetNS makes the network namespace of the containers, with its loopback
// up, and binds it to path.
func makeNetNS(path string) (err error) {
	namespace.Do(func() (restored bool) {
		restored, err = bindNetNS(path)
		return restored
	})
	if err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	return nil
}

// bindNetNS makes the namespace with the calling thread, and returns the thread
// to its own namespace; restored says whether that succeeded.
func bindNetNS(path string) (restored bool, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return true, err
	}
	if err = bindNamespace("/proc/thread-self/ns/net", path); err == nil {
		err = namespace.WithHandle(namespace.SetLoopbackUp)
	}
	return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil, err
}

// adoptNetNS binds the network namespace of the process pid to path, in place of
// the containers' namespace that makeNetNS made.
func adoptNetNS(pid int, path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("adopt network namespace: %w", err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", pid), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("adopt network namespace: bind: %w", err)
	}
	return nil
}
