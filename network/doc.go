// Package network brings the interfaces of a network namespace into a guest.
//
// Whatever the caller put into the namespace (veth, macvlan, ipvlan, tap, …)
// stays where it is. Each such link gets a tap device, which the VMM holds open,
// and traffic control redirects every frame from the link to the tap and back.
// The guest's interface has the link's hardware address, addresses, routes and
// MTU. The namespace's own network stack receives nothing from the link except the
// answers to its own sockets.
//
// The package starts no VMM, does not talk to the guest, and creates no namespace.
package network
