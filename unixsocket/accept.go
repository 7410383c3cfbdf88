package unixsocket

import (
	"errors"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// acceptPause is the time between two tries to accept a connection: nothing tells when
// there are descriptors or memory again.
const acceptPause = 50 * time.Millisecond

// Accept waits for a connection with accept, the method of a listener of any kind of
// socket. After an error that may pass, such as a shortage of file descriptors, it tries
// again. So its error says that the listener is closed, or that accept can never succeed.
func Accept[C net.Conn](accept func() (C, error)) (C, error) {
	for {
		conn, err := accept()
		if err == nil || !passes(err) {
			return conn, err
		}
		<-time.After(acceptPause)
	}
}

// passes says that another accept may succeed: the process or the host is short of
// descriptors or memory, or the client has gone.
func passes(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno) &&
		slices.Contains([]unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED}, errno)
}
