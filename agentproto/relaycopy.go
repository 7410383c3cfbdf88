package agentproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A relay's bytes go in frames, each way: four bytes of length, then so many bytes. A
// frame of no bytes ends that direction: not every transport can half close.
const (
	frameHeader = 4
	// maxFrame bounds one frame, in bytes, and with it what a relay holds in memory.
	maxFrame = 16 << 10
)

// RelaySocket is a TCP connection whose bytes a relay carries. Both sides have one.
type RelaySocket interface {
	io.ReadWriteCloser
	// CloseWrite half closes the connection: the peer reads the end.
	CloseWrite() error
	// SetLinger with 0 makes Close reset the connection.
	SetLinger(seconds int) error
}

// relay is one side of a relay while Relay copies.
type relay struct {
	socket RelaySocket
	stream net.Conn
	// ended is set before the last frame is sent.
	ended atomic.Bool
	// reset closes the stream, and the socket by a TCP reset.
	reset func()
}

// Relay copies between a socket and the stream of a relay, both ways, until both
// directions have ended, and closes both. The end of one direction leaves the other
// open. Where either breaks, the socket is reset, and so is that of the other side.
func Relay(socket RelaySocket, stream net.Conn) {
	r := &relay{socket: socket, stream: stream, reset: sync.OnceFunc(func() {
		_ = socket.SetLinger(0)
		_ = socket.Close()
		_ = stream.Close()
	})}
	var both, watch sync.WaitGroup
	both.Go(func() {
		if r.send() != nil {
			r.reset()
		}
	})
	both.Go(func() {
		if r.receive() != nil {
			r.reset()
			return
		}
		watch.Go(r.watch)
	})
	both.Wait()
	_ = socket.Close() // after a reset it is closed
	_ = stream.Close()
	watch.Wait()
}

// send carries the socket's bytes, and its end.
func (r *relay) send() error {
	frame := make([]byte, frameHeader+maxFrame)
	for {
		n, err := r.socket.Read(frame[frameHeader:])
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 && err == nil {
			continue
		}
		r.ended.Store(n == 0)
		binary.BigEndian.PutUint32(frame, uint32(n)) // #nosec G115 -- at most maxFrame
		if _, err := r.stream.Write(frame[:frameHeader+n]); err != nil || r.ended.Load() {
			return err
		}
	}
}

// receive carries the stream's bytes, and its end.
func (r *relay) receive() error {
	var header [frameHeader]byte
	buf := make([]byte, maxFrame)
	for {
		if _, err := io.ReadFull(r.stream, header[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(header[:])
		switch {
		case n == 0:
			return r.socket.CloseWrite()
		case n > maxFrame:
			return fmt.Errorf("a frame of %d bytes: %w", n, ErrProtocol)
		}
		if _, err := io.ReadFull(r.stream, buf[:n]); err != nil {
			return err
		}
		if _, err := r.socket.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// watch waits for the stream's end after the other side's last frame. If this side has not
// sent its own last frame by then, the other side has broken the stream.
func (r *relay) watch() {
	_, _ = r.stream.Read(make([]byte, 1))
	if !r.ended.Load() {
		r.reset()
	}
}
