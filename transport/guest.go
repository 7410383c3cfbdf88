package transport

// Guest says how a guest reaches the host, which the guest cannot find out by itself.
type Guest struct {
	// Serial says that the guest has a virtio-serial port for that (package serial),
	// and no vsock.
	Serial bool
	// Ports maps the ports that were asked for to those of the host, where they differ:
	// with AF_VSOCK all guests share the host's ports, so the listener for each guest
	// takes any that is free.
	Ports map[uint32]uint32
}

// HostPort is the host's port to dial for the listener that was asked for at port.
func (g Guest) HostPort(port uint32) uint32 {
	if other, ok := g.Ports[port]; ok {
		return other
	}
	return port
}
