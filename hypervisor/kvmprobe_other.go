//go:build !amd64

package hypervisor

import (
	"fmt"
	"runtime"
)

// ProbeKVM says whether this host's KVM runs guests.
func ProbeKVM() error {
	return fmt.Errorf("%w: not on %s", ErrNoKVM, runtime.GOARCH)
}
