package channel

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The header of yamux's frames, see spec.md of github.com/hashicorp/yamux: version, type,
// two bytes of flags, four of stream id, four of length.
const (
	frameHeader = 12
	typeData    = 0
	typePing    = 2
	typeLast    = 3
	flagSYN     = 1
)

// guard refuses frames from the guest that yamux accepts but the agent never sends:
// streams with an id that only the host may use, and pings. yamux starts a goroutine for
// each ping, which lives until the answer is written, so a guest that pings and does not
// read could fill our memory. yamux's own windows bound everything else.
type guard struct {
	io.ReadWriteCloser
	header  [frameHeader]byte
	have    int    // bytes of header
	payload uint32 // bytes of data still to come
}

func newGuard(conn io.ReadWriteCloser) *guard {
	return &guard{ReadWriteCloser: conn}
}

// Read fails with ErrProtocol at the first frame that is refused; that ends the
// session.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.ReadWriteCloser.Read(p)
	if refusal := g.check(p[:n]); refusal != nil {
		return 0, refusal
	}
	return n, err
}

func (g *guard) check(p []byte) error {
	for len(p) > 0 {
		if g.payload > 0 {
			n := min(g.payload, uint32(min(len(p), 1<<30))) // #nosec G115 -- at most 1<<30
			g.payload -= n
			p = p[n:]
			continue
		}
		n := copy(g.header[g.have:], p)
		g.have += n
		p = p[n:]
		if g.have < frameHeader {
			return nil
		}
		g.have = 0
		if err := g.frame(); err != nil {
			return err
		}
	}
	return nil
}

func (g *guard) frame() error {
	kind := g.header[1]
	flags := binary.BigEndian.Uint16(g.header[2:])
	id := binary.BigEndian.Uint32(g.header[4:])
	switch {
	case g.header[0] != 0 || kind > typeLast:
		return fmt.Errorf("frame %x: %w", g.header, ErrProtocol)
	case kind == typePing && flags&flagSYN != 0:
		return fmt.Errorf("a ping: %w", ErrProtocol)
	case kind < typePing && flags&flagSYN != 0 && (id == 0 || id%2 != 0):
		return fmt.Errorf("the guest opened stream %d, which is ours: %w", id, ErrProtocol)
	}
	if kind == typeData {
		g.payload = binary.BigEndian.Uint32(g.header[8:])
	}
	return nil
}
