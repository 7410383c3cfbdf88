package transport

// Guest is how a guest reaches the host, which it cannot find out by itself.
type Guest struct {
	// Serial says that the guest has a virtio-serial port for it (package serial),
	// and no vsock.
	Serial bool
	// Ports are the host's ports by those that were asked for, where they differ:
	// on AF_VSOCK a port of the host is one for all guests, so each guest's
	// listener takes any that is free.
	Ports map[uint32]uint32
}

// HostPort is the port to dial for the listener of a port.
func (g Guest) HostPort(port uint32) uint32 {
	if other, ok := g.Ports[port]; ok {
		return other
	}
	return port
}
