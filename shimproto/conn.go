package shimproto

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"runch/unixsocket"

	"golang.org/x/sys/unix"
)

// Conn is one end of the setup's socket.
type Conn struct {
	conn *net.UnixConn
	enc  *json.Encoder
	dec  *json.Decoder
}

// maxSetup bounds what one side reads in all, in bytes: a spec is a few dozen KiB.
const maxSetup = 64 << 20

// Open makes a Conn of the socket f, and closes f.
func Open(f *os.File) (*Conn, error) {
	conn, err := unixsocket.Open(f)
	if err != nil {
		return nil, fmt.Errorf("open the shim's socket: %w", err)
	}
	return newConn(conn), nil
}

func newConn(conn *net.UnixConn) *Conn {
	return &Conn{conn: conn, enc: json.NewEncoder(conn), dec: json.NewDecoder(io.LimitReader(conn, maxSetup))}
}

// Pair gives the command's end and the file that becomes the shim's.
func Pair() (*Conn, *os.File, error) {
	ours, theirs, err := unixsocket.Pair("setup")
	if err != nil {
		return nil, nil, fmt.Errorf("make the shim's socket: %w", err)
	}
	return newConn(ours), theirs, nil
}

// Send sends a message.
func (c *Conn) Send(v any) error {
	if err := c.enc.Encode(v); err != nil {
		return fmt.Errorf("write to the shim's socket: %w", err)
	}
	return nil
}

// Receive takes the next message.
func (c *Conn) Receive(v any) error {
	if err := c.dec.Decode(v); err != nil {
		return fmt.Errorf("read from the shim's socket: %w", err)
	}
	return nil
}

// Announce tells the other end who this process is: ReceivePID takes it.
func (c *Conn) Announce() error {
	if _, err := c.conn.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("write to the shim's socket: %w", err)
	}
	return nil
}

// ReceivePID takes an announcement, before any other message, and gives the pid
// of its sender in this process's pid namespace, whatever namespaces the sender is
// in: see SCM_CREDENTIALS of unix(7). It needs a call of PassCredentials before.
func (c *Conn) ReceivePID() (int, error) {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	_, n, _, _, err := c.conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return 0, fmt.Errorf("read from the shim's socket: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return 0, fmt.Errorf("read from the shim's socket: %w", err)
	}
	for _, m := range messages {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			return int(cred.Pid), nil
		}
	}
	return 0, fmt.Errorf("read from the shim's socket: %w", io.ErrUnexpectedEOF)
}

// PassCredentials makes the kernel add the sender's pid to what this end receives: see
// SO_PASSCRED of unix(7).
func (c *Conn) PassCredentials() error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("set up the shim's socket: %w", err)
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err := errors.Join(err, set); err != nil {
		return fmt.Errorf("set up the shim's socket: %w", err)
	}
	return nil
}

// Interrupt makes a Send or Receive under way, and all later ones, fail.
func (c *Conn) Interrupt() { _ = c.conn.SetDeadline(time.Unix(1, 0)) }

// Close closes this end.
func (c *Conn) Close() { _ = c.conn.Close() }
