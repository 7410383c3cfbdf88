package qemu

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"runch/hypervisor"
)

// inherited collects the files that QEMU gets, in the order of their numbers.
type inherited struct {
	files []*os.File // what is passed
	own   []*os.File // those of them that we opened
}

// firstInherited is the number of the first of exec.Cmd.ExtraFiles.
const firstInherited = 3

// borrow passes a file of the caller's and gives its number in QEMU.
func (in *inherited) borrow(f *os.File) int {
	in.files = append(in.files, f)
	return firstInherited + len(in.files) - 1
}

// take passes a file and closes our copy of it when QEMU has its own.
func (in *inherited) take(f *os.File) int {
	in.own = append(in.own, f)
	return in.borrow(f)
}

// close closes our copies; QEMU keeps its own.
func (in *inherited) close() {
	for _, f := range in.own {
		_ = f.Close()
	}
	in.files, in.own = nil, nil
}

// openPayload opens a kernel or an initramfs so that user can read it through the
// descriptor. QEMU opens /proc/self/fd/N, which asks for the right to read the
// file itself though not for a way to it; where user lacks that, QEMU gets a copy
// in memory.
func openPayload(what, path string, user *syscall.Credential) (*os.File, error) {
	f, err := os.Open(path) // #nosec G304 -- the configured path
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w: %w", what, hypervisor.ErrNotFound, err)
		}
		return nil, fmt.Errorf("open the %s: %w", what, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil && info.Size() == 0 {
		err = errors.New("the file is empty")
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s %s: %w", what, path, err)
	}
	if user == nil || user.Uid == 0 || info.Mode()&0o004 != 0 {
		return f, nil
	}
	defer f.Close() //nolint:errcheck // it was only read
	return copyToMemory(what, f)
}

// memoryFile makes an empty file that is nowhere but in memory.
func memoryFile(what string) (*os.File, error) {
	fd, err := unix.MemfdCreate(what, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the %s's file in memory: %w", what, err)
	}
	return os.NewFile(uintptr(fd), what), nil
}

func copyToMemory(what string, f *os.File) (*os.File, error) {
	memory, err := memoryFile(what)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(memory, f); err != nil {
		_ = memory.Close()
		return nil, fmt.Errorf("copy the %s: %w", what, err)
	}
	return memory, nil
}

// socketPair makes a connected pair: ours, for the runtime's poller, and QEMU's.
func socketPair(what string) (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the %s: %w", what, err)
	}
	theirs = os.NewFile(uintptr(fds[1]), what)
	f := os.NewFile(uintptr(fds[0]), what)
	ours, err = net.FileConn(f)
	_ = f.Close() // FileConn has made a copy
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make the %s: %w", what, err)
	}
	return ours, theirs, nil
}

// The driver's sockets in Config.Dir.
const (
	monitorSocket = "qmp.sock"
	agentSocket   = "agent.sock"
)

// listen makes a socket in dir that only its owner can connect to. One that a
// killed predecessor left is replaced.
func listen(dir, name string) (*net.UnixListener, error) {
	path := filepath.Join(dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	// Close removes them by a path that then still means this file.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	return l, nil
}

// dialShare connects to virtiofsd where the caller has not.
func dialShare(path string) (*os.File, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to virtiofsd: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the file is a copy
	f, err := conn.File()
	if err != nil {
		return nil, fmt.Errorf("connect to virtiofsd: %w", err)
	}
	return f, nil
}
