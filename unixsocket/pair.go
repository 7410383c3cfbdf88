package unixsocket

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Open makes a connection of the unix socket f, and closes f.
func Open(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f) // a copy
	_ = f.Close()
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("%s is not a unix socket", f.Name())
	}
	return conn, nil
}

// Pair makes two stream sockets that are connected: ours, and the file for another
// process, which has this name.
func Pair(name string) (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs = os.NewFile(uintptr(fds[1]), name)
	ours, err = Open(os.NewFile(uintptr(fds[0]), name))
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}
