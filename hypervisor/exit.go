package hypervisor

import (
	"fmt"
	"os"
	"strings"
)

// ExitError says that the VMM's process ended by itself, and what it wrote last.
type ExitError struct {
	// VMM is the driver's name.
	VMM string
	// State is how the process ended, nil when it was not started.
	State *os.ProcessState
	// StderrTail are the last lines of its standard error, bounded by the driver,
	// without control characters.
	StderrTail []string
}

// Error gives one line: how the process ended, and the tail of its standard error.
func (e *ExitError) Error() string {
	text := e.VMM + " ended"
	if e.State != nil {
		text = fmt.Sprintf("%s ended with %s", e.VMM, e.State)
	}
	if len(e.StderrTail) > 0 {
		text += ": " + strings.Join(e.StderrTail, "; ")
	}
	return text
}
