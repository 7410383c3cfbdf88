// Package network brings the interfaces of a network namespace into a guest.
//
// Whatever the caller put into the namespace (veth, macvlan, ipvlan, tap, …)
// stays where it is. Each such link gets a tap device, which the VMM holds open,
// and traffic control redirects every frame from the link to the tap and back:
// the guest's interface has the link's hardware address, addresses, routes and
// MTU, and the namespace's own network stack receives no frame, but answers to sockets of
// the namespace's own.
//
// The package starts no VMM, does not talk to the guest, and creates no namespace.
package network
