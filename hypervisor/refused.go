package hypervisor

import (
	"fmt"
	"strings"

	"runch/plaintext"
)

// RefusedError says that the VMM has understood a request and refused it.
type RefusedError struct {
	// VMM is the driver's name, Request the request's name in the VMM's own terms.
	VMM, Request string
	// Reasons are the VMM's, the outermost first.
	Reasons []string
}

// maxReasons bounds what an error quotes of the reasons, in bytes.
const maxReasons = 1000

// Error returns one line: the request and the VMM's reasons.
func (e *RefusedError) Error() string {
	reasons := strings.Join(e.Reasons, ": ")
	return fmt.Sprintf("%s refuses %s: %s", e.VMM, e.Request, plaintext.Line(reasons[:min(len(reasons), maxReasons)]))
}
