package agentproto

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"runch/transport"
)

// streamDialer is a guest that accepts one stream.
type streamDialer struct{ guest chan net.Conn }

func (d streamDialer) Dial(_ context.Context, port uint32) (net.Conn, error) {
	if port != StreamPort {
		return nil, errors.New("this port has no streams")
	}
	host, guest := net.Pipe()
	d.guest <- guest
	return host, nil
}

func TestOpenStream(t *testing.T) {
	d := streamDialer{make(chan net.Conn, 1)}
	got := make(chan uint64, 1)
	go func() {
		conn := <-d.guest
		defer conn.Close()
		id, err := ReadStreamHeader(conn)
		if err != nil {
			t.Error(err)
		}
		got <- id
	}()
	conn, err := OpenStream(t.Context(), d, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if id := <-got; id != 7 {
		t.Errorf("the guest read id %d", id)
	}
}

// TestOpenStreamKeepsItsDeadline: a guest that reads nothing does not hold it up.
func TestOpenStreamKeepsItsDeadline(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if conn, err := OpenStream(ctx, streamDialer{make(chan net.Conn, 1)}, 7); !errors.Is(err, cause) {
		t.Errorf("%v, %v", conn, err)
	}
}

func TestKernelParams(t *testing.T) {
	for name, tc := range map[string]struct {
		guest transport.Guest
		want  []string
	}{
		"vsock":              {transport.Guest{}, []string{"runch.transport=vsock"}},
		"vsock, other port":  {transport.Guest{Ports: map[uint32]uint32{HelloPort: 5000}}, []string{"runch.transport=vsock", "runch.hello_port=5000"}},
		"serial":             {transport.Guest{Serial: true}, []string{"runch.transport=serial"}},
		"vsock, other ports": {transport.Guest{Ports: map[uint32]uint32{7: 5000}}, []string{"runch.transport=vsock"}},
	} {
		if got := KernelParams(tc.guest); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
