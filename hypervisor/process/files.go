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

// Files collects what a program inherits, in the order of their numbers.
type Files struct {
	files []*os.File // what is passed
	own   []*os.File // those of them that we opened
}

// firstFile is the number of the first of exec.Cmd.ExtraFiles.
const firstFile = 3

// Borrow passes a file of the caller's and gives its number in the program.
func (in *Files) Borrow(f *os.File) int {
	in.files = append(in.files, f)
	return firstFile + len(in.files) - 1
}

// Take passes a file and closes our copy of it when the program has its own.
func (in *Files) Take(f *os.File) int {
	in.own = append(in.own, f)
	return in.Borrow(f)
}

// Passed gives the files for Spec.
func (in *Files) Passed() []*os.File { return in.files }

// Close closes our copies; the program keeps its own.
func (in *Files) Close() {
	for _, f := range in.own {
		_ = f.Close()
	}
	in.files, in.own = nil, nil
}

// OpenPayload opens a kernel or an initramfs so that user can read it through
// the descriptor. A VMM opens /proc/self/fd/N, which asks for the right to read
// the file itself though not for a way to it; where user lacks that, the VMM gets
// a copy, made in dir and without a name.
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

// FilePath is a path by which a program opens what it inherited as descriptor fd.
func FilePath(fd int) string { return filepath.Join("/proc/self/fd", strconv.Itoa(fd)) }

// MakeRunDir makes the VMM's working directory below a sandbox's.
func MakeRunDir(dir string) error {
	if err := os.Mkdir(hypervisor.RunDir(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the VMM's directory: %w", err)
	}
	return nil
}

// Number is the descriptor of a file, which stays as it is: os.File.Fd may make
// a tap blocking.
func Number(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	number := -1
	if err := raw.Control(func(fd uintptr) { number = int(fd) }); err != nil { // #nosec G115 -- a descriptor
		return 0, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	return number, nil
}

// SendWithFiles writes a message to a socket; the files ride on it.
func SendWithFiles(conn *net.UnixConn, message []byte, files []*os.File) error {
	fds := make([]int, 0, len(files))
	for _, f := range files {
		fd, err := Number(f)
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
