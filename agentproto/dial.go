package agentproto

import (
	"context"
	"errors"
	"net"
	"time"
)

// Dialer reaches the guest's ports: a transport.Endpoint, or a running VM.
type Dialer interface {
	Dial(ctx context.Context, port uint32) (net.Conn, error)
}

// OpenStream dials the guest through d and says which stream the connection carries.
func OpenStream(ctx context.Context, d Dialer, id uint64) (net.Conn, error) {
	return open(ctx, d, StreamPort, func(conn net.Conn) error { return WriteStreamHeader(conn, id) })
}

// open dials a port of the guest and lets say tell what the connection is for. ctx bounds
// both.
func open(ctx context.Context, d Dialer, port uint32, say func(net.Conn) error) (net.Conn, error) {
	conn, err := d.Dial(ctx, port)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = say(conn)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}
