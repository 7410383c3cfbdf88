// Package unixsocket binds and connects to unix sockets at paths of any length, makes
// pairs of them, and receives descriptors from them.
//
// An address of a unix socket has room for 107 bytes (unix(7)), and a container
// engine may put a runtime's state below a longer path than that. So the socket is
// named relative to its directory, by a thread whose working directory that is.
// The kernel then also keeps the short name, and this needs no /proc.
package unixsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"runch/namespace"
)

// onlyOwner is a umask that leaves a socket to its owner.
const onlyOwner = 0o177

// The types of sockets.
const (
	stream = "unix"
	packet = "unixpacket"
)

// Dial connects to the stream socket at path. It never waits: a non-blocking connect(2)
// of a unix socket succeeds at once, or fails with EAGAIN where the listener's backlog
// is full. The caller closes the connection.
func Dial(path string) (*net.UnixConn, error) { return dial(stream, path) }

// DialPacket is Dial for a socket that keeps the bounds of messages, SOCK_SEQPACKET.
func DialPacket(path string) (*net.UnixConn, error) { return dial(packet, path) }

// DialAt is Dial for a socket in an open directory.
func DialAt(dir *os.File, name string) (*net.UnixConn, error) { return dialAt(stream, dir, name) }

func dial(network, path string) (*net.UnixConn, error) {
	dir, err := openDir(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dialAt(network, dir, filepath.Base(path))
}

func dialAt(network string, dir *os.File, name string) (conn *net.UnixConn, err error) {
	err = inDir(dir, func() error {
		conn, err = net.DialUnix(network, nil, &net.UnixAddr{Name: name, Net: network})
		return err
	})
	return conn, err
}

// Listen makes a stream socket at path that only its owner can connect to. One that
// a killed predecessor left there is replaced. Closing the listener does not
// remove the path, which may be another listener's by then.
func Listen(path string) (*net.UnixListener, error) { return listen(stream, path) }

// ListenPacket is Listen for a socket that keeps the bounds of messages.
func ListenPacket(path string) (*net.UnixListener, error) { return listen(packet, path) }

func listen(network, path string) (*net.UnixListener, error) {
	dir, err := openDir(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	name := filepath.Base(path)
	var l *net.UnixListener
	err = inDir(dir, func() (err error) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		unix.Umask(onlyOwner) // of this thread alone, by CLONE_FS
		l, err = net.ListenUnix(network, &net.UnixAddr{Name: name, Net: network})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// openDir opens the directory of a socket.
func openDir(path string) (*os.File, error) { return OpenDir(filepath.Dir(path)) }

// OpenDir opens a directory for DialAt. It need not be readable.
func OpenDir(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the socket's directory: %w", err)
	}
	return dir, nil
}

// inDir calls fn on a thread that has dir for its working directory and ends
// afterwards.
func inDir(dir *os.File, fn func() error) (err error) {
	namespace.Do(func() (restored bool) {
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			err = fmt.Errorf("make a thread with a directory of its own: %w", err)
			return true
		}
		if err = changeDir(dir); err != nil {
			err = fmt.Errorf("go to the socket's directory: %w", err)
			return false
		}
		err = fn()
		return false
	})
	return err
}

// changeDir uses SyscallConn, which keeps the descriptor from being closed meanwhile.
func changeDir(dir *os.File) error {
	raw, err := dir.SyscallConn()
	if err != nil {
		return err
	}
	var changed error
	err = raw.Control(func(fd uintptr) { changed = unix.Fchdir(int(fd)) })
	return errors.Join(err, changed)
}
