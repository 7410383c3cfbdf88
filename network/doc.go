// Package network brings the interfaces of a network namespace into a guest.
//
// Whatever the caller put into the namespace (veth, macvlan, ipvlan, tap, …)
// stays where it is. Beside each such link stands a tap device that the VMM
// holds open, and traffic control moves every frame that arrives on the one to
// the other: the guest's interface has the link's hardware address, addresses,
// routes and MTU, and the namespace's own stack never sees a frame.
//
// The package knows namespaces, links and taps. It starts no VMM and talks to
// no guest; the namespace is made and pinned by others.
package network
