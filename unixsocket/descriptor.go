package unixsocket

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// maxText bounds the bytes that a descriptor comes with; runc sends the path of a pty.
const maxText = 4096

// ReceiveDescriptor waits for a message that carries one descriptor, and gives that to
// the caller to close. It is closed on exec.
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

// Descriptors gives the descriptors that a message has brought, whose control part
// is oob. They are the caller's to close.
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
