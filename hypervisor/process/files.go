package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"runch/hypervisor"
)

// Files collects what a program inherits, in the order of their descriptors.
type Files struct {
	files []*os.File // all that are passed
	own   []*os.File // those of them that Close closes
}

// firstFile is the descriptor of the first of exec.Cmd.ExtraFiles.
const firstFile = 3

// Borrow adds a file that the caller closes, and returns its descriptor in the program.
func (l *Files) Borrow(f *os.File) int {
	l.files = append(l.files, f)
	return firstFile + len(l.files) - 1
}

// Take adds a file that Close closes, and returns its descriptor in the program.
func (l *Files) Take(f *os.File) int {
	l.own = append(l.own, f)
	return l.Borrow(f)
}

// Passed returns the files for Spec.Files.
func (l *Files) Passed() []*os.File { return l.files }

// Close closes the files from Take. A program that was started keeps its own copies.
func (l *Files) Close() {
	for _, f := range l.own {
		_ = f.Close()
	}
	l.files, l.own = nil, nil
}

// OpenPayload opens a kernel or an initramfs so that user can read it through
// the descriptor. A VMM opens /proc/self/fd/N. The kernel then checks the mode of the
// file, but not of the directories above it. If user may not read the file, OpenPayload
// returns a copy, made in dir and unlinked. what names the file in errors.
func OpenPayload(what, path string, user *syscall.Credential, dir string) (*os.File, error) {
	f, err := os.Open(path)
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
	defer f.Close()
	return readableCopy(what, f, dir)
}

func readableCopy(what string, f *os.File, dir string) (*os.File, error) {
	c, err := os.CreateTemp(dir, what)
	if err != nil {
		return nil, fmt.Errorf("copy the %s: %w", what, err)
	}
	_, err = io.Copy(c, f)
	if err = errors.Join(err, os.Remove(c.Name()), c.Chmod(0o444)); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("copy the %s: %w", what, err)
	}
	return c, nil
}

// FilePath returns a path by which a program can open the file of its descriptor fd again.
func FilePath(fd int) string { return filepath.Join("/proc/self/fd", strconv.Itoa(fd)) }

// MakeRunDir makes the VMM's working directory in a sandbox's directory. It may exist.
func MakeRunDir(dir string) error {
	if err := os.Mkdir(hypervisor.RunDir(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the VMM's directory: %w", err)
	}
	return nil
}

// Descriptor returns a file's descriptor without changing its mode. os.File.Fd may set it
// to blocking, which a tap must not be.
func Descriptor(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	descriptor := -1
	if err := raw.Control(func(fd uintptr) { descriptor = int(fd) }); err != nil {
		return 0, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	return descriptor, nil
}

// SendWithFiles writes a message to a socket, with the files' descriptors (SCM_RIGHTS).
func SendWithFiles(conn *net.UnixConn, message []byte, files []*os.File) error {
	fds := make([]int, 0, len(files))
	for _, f := range files {
		fd, err := Descriptor(f)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := conn.WriteMsgUnix(message, rights, nil)
	runtime.KeepAlive(files)
	if err == nil && n < len(message) {
		_, err = conn.Write(message[n:])
	}
	return err
}
