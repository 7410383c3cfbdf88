package hypervisor

import (
	"fmt"
	"os"
	"strings"
)

// ExitError says that the VMM's process ended by itself, and what it said last.
type ExitError struct {
	// VMM is the driver's name.
	VMM string
	// State is how the process ended, nil when it was not started.
	State *os.ProcessState
	// LastWords are the last lines of its standard error, bounded by the driver,
	// without control characters.
	LastWords []string
}

// Error gives one line: the end and the last words.
func (e *ExitError) Error() string {
	text := e.VMM + " ended"
	if e.State != nil {
		text = fmt.Sprintf("%s ended with %s", e.VMM, e.State)
	}
	if len(e.LastWords) > 0 {
		text += ": " + strings.Join(e.LastWords, "; ")
	}
	return text
}
