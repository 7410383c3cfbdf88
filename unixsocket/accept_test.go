package unixsocket_test

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"runch/unixsocket"
)

func TestAccept(t *testing.T) {
	conn, peer := net.Pipe()
	defer conn.Close()
	defer peer.Close()
	failed := func(err error) error {
		return &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", err)}
	}
	for name, tc := range map[string]struct {
		fails []error
		want  error
	}{
		"at once":     {nil, nil},
		"shortage":    {[]error{failed(unix.EMFILE), failed(unix.EMFILE), failed(unix.ENFILE), failed(unix.ENOMEM), failed(unix.ENOBUFS)}, nil},
		"client gone": {[]error{failed(unix.ECONNABORTED)}, nil},
		"closed":      {[]error{failed(unix.EMFILE), &net.OpError{Op: "accept", Err: net.ErrClosed}}, net.ErrClosed},
		"no listener": {[]error{failed(unix.EINVAL)}, unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			left := tc.fails
			got, err := unixsocket.Accept(func() (net.Conn, error) {
				if len(left) == 0 {
					return conn, nil
				}
				err := left[0]
				left = left[1:]
				return nil, err
			})
			if !errors.Is(err, tc.want) || len(left) != 0 || tc.want == nil && got != conn {
				t.Errorf("%v, %v after %d of %d errors, want %v", got, err, len(tc.fails)-len(left), len(tc.fails), tc.want)
			}
		})
	}
}
