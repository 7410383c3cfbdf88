package hypervisor

import (
	"fmt"
	"strings"
)

// RefusedError says that the VMM has taken an order and refused it.
type RefusedError struct {
	// VMM is the driver's name, Order what was asked for in the VMM's own terms.
	VMM, Order string
	// Words are the VMM's reasons, the outermost first.
	Words []string
}

// maxRefusal bounds what a refusal quotes, in bytes.
const maxRefusal = 1000

// Error gives one line.
func (e *RefusedError) Error() string {
	words := strings.Join(e.Words, ": ")
	if len(words) > maxRefusal {
		words = words[:maxRefusal]
	}
	return fmt.Sprintf("%s refuses %s: %s", e.VMM, e.Order, Printable(words))
}

// Printable makes one line without control characters of what a VMM says: a
// part of it may be the guest's.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimRight(text, "\r\n"), "?"))
}
