package shim

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"runch/agentproto"
	"runch/namespace"
	"runch/network/loopback"
	"runch/shimproto"
)

// openLocalhost gives the guest the connections that processes in this network namespace
// make to the namespace itself, for as long as this process lives. Port-forwarding dials
// 127.0.0.1 and ::1; a rootless publisher of ports dials the container's own address.
// After an error the guest works, but does not get these connections.
func (h *holder) openLocalhost(ctx context.Context, v *shimproto.VM) error {
	if v.NewNetwork {
		if err := namespace.WithHandle(namespace.SetLoopbackUp); err != nil {
			return err
		}
	}
	_, err := loopback.Open(context.WithoutCancel(ctx), loopback.Guest{
		Connect: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return agentproto.OpenRelay(ctx, h.vm, to)
		},
		Relay: func(client *net.TCPConn, guest net.Conn) {
			defer h.settle()
			agentproto.Relay(client, guest)
		},
	})
	if err != nil {
		return fmt.Errorf("take the connections to localhost: %w", err)
	}
	return nil
}
