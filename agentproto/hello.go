package agentproto

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// maxHello bounds the hello, in bytes; a real one has some dozens.
const maxHello = 4096

// WriteHello says hello: four bytes of length, then the message.
func WriteHello(w io.Writer, hello *Hello) error {
	body, err := proto.Marshal(hello)
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	if len(body) > maxHello {
		return fmt.Errorf("hello of %d bytes: %w", len(body), ErrProtocol)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body))) // #nosec G115 -- at most maxHello
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("write hello: %w", err)
	}
	return nil
}

// ReadHello reads what WriteHello wrote and refuses another protocol version.
func ReadHello(r io.Reader) (*Hello, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxHello {
		return nil, fmt.Errorf("hello of %d bytes: %w", n, ErrProtocol)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	hello := new(Hello)
	if err := proto.Unmarshal(body, hello); err != nil {
		return nil, fmt.Errorf("decode hello: %w: %w", ErrProtocol, err)
	}
	if hello.GetProtocol() != Version {
		return nil, fmt.Errorf("the guest image speaks protocol %d, this runch speaks %d: build the image anew with `runch guest build`: %w",
			hello.GetProtocol(), Version, ErrProtocol)
	}
	return hello, nil
}
