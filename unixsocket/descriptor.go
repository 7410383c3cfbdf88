package unixsocket

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// maxText bounds the bytes beside the descriptor in a message; runc sends the path of a pty.
const maxText = 4096

// ReceiveDescriptor waits for a message that carries one file descriptor, and returns the
// descriptor, which is close-on-exec. The caller closes it.
func ReceiveDescriptor(conn *net.UnixConn) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, maxText), oob)
	if err != nil {
		return -1, fmt.Errorf("receive a descriptor: %w", err)
	}
	fds, err := Descriptors(oob[:n])
	if err != nil {
		return -1, fmt.Errorf("receive a descriptor: %w", err)
	}
	if len(fds) == 1 {
		return fds[0], nil
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return -1, fmt.Errorf("receive a descriptor: %d came: %w", len(fds), unix.EBADMSG)
}

// Descriptors gives the file descriptors of a message from oob, its control part. The
// caller closes them.
func Descriptors(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		rights, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fds, err
		}
		fds = append(fds, rights...)
	}
	return fds, nil
}
