package hypervisor

import (
	"fmt"
	"strings"

	"runch/plaintext"
)

// RefusedError says that the VMM has understood a request and refused it.
type RefusedError struct {
	// VMM is the driver's name, Request what was asked for in the VMM's own terms.
	VMM, Request string
	// Reasons are the VMM's, the outermost first.
	Reasons []string
}

// maxReasons bounds what an error quotes of the reasons, in bytes.
const maxReasons = 1000

// Error gives one line.
func (e *RefusedError) Error() string {
	reasons := strings.Join(e.Reasons, ": ")
	return fmt.Sprintf("%s refuses %s: %s", e.VMM, e.Request, plaintext.Line(reasons[:min(len(reasons), maxReasons)]))
}
