package oci

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// environment is what a spec's validity depends on besides the spec.
type environment struct {
	selinux, apparmor bool
	// hostname and domainname are the host's.
	hostname, domainname string
	// checkNetNS says why a path is not a network namespace that a container
	// may join; nil if it is.
	checkNetNS func(path string) error
	// hasDevice tells whether the host has a device, block or char, of a number.
	hasDevice func(kind string, n deviceNumber) bool
}

// hostEnvironment is the environment on this host.
func hostEnvironment() *environment {
	env := &environment{selinux: selinuxEnabled(), apparmor: apparmorEnabled(), checkNetNS: checkNetNS, hasDevice: hasDevice}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		env.hostname = unix.ByteSliceToString(uts.Nodename[:])
		env.domainname = unix.ByteSliceToString(uts.Domainname[:])
	}
	if env.domainname == "(none)" {
		env.domainname = ""
	}
	return env
}

// selinuxEnabled checks, as libselinux does, whether selinuxfs is mounted.
func selinuxEnabled() bool {
	for _, dir := range []string{"/sys/fs/selinux", "/selinux"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.SELINUX_MAGIC {
			return true
		}
	}
	return false
}

// apparmorEnabled checks the same files as runc.
func apparmorEnabled() bool {
	if _, err := os.Stat("/sys/kernel/security/apparmor"); err != nil {
		return false
	}
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && bytes.HasPrefix(enabled, []byte("Y"))
}

// checkNetNS refuses a path that is not a network namespace, and the network namespace
// of the runtime or of the host's init: a VM cannot share it.
func checkNetNS(path string) error {
	// The path may name a FIFO: without O_NONBLOCK, open(2) of it waits for a writer.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if typ, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || typ != unix.CLONE_NEWNET {
		return fmt.Errorf("%s is not a network namespace", path)
	}
	var st, host unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	for _, own := range []string{"/proc/self/ns/net", "/proc/1/ns/net"} {
		// A user who may not look at init's namespace (ptrace(2), "access mode checking")
		// may not join it either.
		if err := unix.Stat(own, &host); err == nil && host.Dev == st.Dev && host.Ino == st.Ino {
			return OutsideErrorf("%s is the host's network namespace, which a VM cannot share", path)
		}
	}
	return nil
}
