package agentproto

import (
	"fmt"

	"runch/transport"
)

// KernelParams are the parameters of the guest's kernel that tell the agent how it
// reaches the host.
func KernelParams(guest transport.Guest) []string {
	if guest.Serial {
		return []string{TransportParam + "=" + TransportSerial}
	}
	params := []string{TransportParam + "=" + TransportVsock}
	if port := guest.HostPort(HelloPort); port != HelloPort {
		params = append(params, fmt.Sprintf("%s=%d", HelloPortParam, port))
	}
	return params
}
