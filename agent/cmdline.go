package agent

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"runch/agentproto"
)

// errParam is wrapped by every error about a parameter of the kernel's command line.
var errParam = errors.New("bad kernel parameter")

// Params is what the kernel's command line tells the agent.
type Params struct {
	// Transport is agentproto.TransportVsock or agentproto.TransportSerial.
	Transport string
	// HelloPort is the host's port for the hello.
	HelloPort uint32
	// Debug lets the agent write to the console.
	Debug bool
}

// ParseCmdline reads the agent's parameters from a kernel command line. It ignores all
// other parameters, also unknown `runch.` ones. If one is given several times, the last
// counts, as with the kernel's own.
func ParseCmdline(line string) (Params, error) {
	p := Params{Transport: agentproto.TransportVsock, HelloPort: agentproto.HelloPort}
	for word := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case agentproto.TransportParam:
			if value != agentproto.TransportVsock && value != agentproto.TransportSerial {
				return Params{}, fmt.Errorf("%s=%q: %w", key, value, errParam)
			}
			p.Transport = value
		case agentproto.HelloPortParam:
			port, err := strconv.ParseUint(value, 10, 32)
			if err != nil || port == 0 {
				return Params{}, fmt.Errorf("%s=%q: %w", key, value, errParam)
			}
			p.HelloPort = uint32(port)
		case agentproto.DebugParam:
			p.Debug = value != "0"
		}
	}
	return p, nil
}
