package main

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// receive listens on the socket, takes one master when the first instruction is accept, and then carries out
// instructions until the input ends.
func (s *screen) receive(socket string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	lines := instructions()
	if first, ok := <-lines; !ok || first != "accept" {
		return fmt.Errorf("the first instruction is %q, not accept", first)
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := s.take(conn)
	if err != nil {
		return err
	}
	if err := s.write(r); err != nil {
		return err
	}
	done := make(chan error, 1)
	go s.copy(done)
	for line := range lines {
		if err := s.execute(line); err != nil {
			return err
		}
	}
	_ = s.master.Close() // an instruction may have closed it
	return <-done
}

// take reads the one message of the console protocol: a name and a descriptor.
func (s *screen) take(conn *net.UnixConn) (*report, error) {
	name := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, fmt.Errorf("receive the master: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var fds []int
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, fmt.Errorf("parse rights: %w", err)
		}
		fds = append(fds, got...)
	}
	if len(fds) == 0 {
		return nil, errors.New("no descriptor in the message")
	}
	// In non-blocking mode, closing the master ends a read that is under way.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	s.master = os.NewFile(uintptr(fds[0]), "master")
	// TIOCGPTN succeeds on a pty's master only.
	_, err = unix.IoctlGetUint32(fds[0], unix.TIOCGPTN)
	return &report{Name: string(name[:n]), Descriptors: len(fds), IsPTYMaster: err == nil}, nil
}
