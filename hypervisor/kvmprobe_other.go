//go:build !amd64

package hypervisor

import (
	"fmt"
	"runtime"
)

// ProbeKVM returns an error that wraps ErrNoKVM: the probe supports amd64 only.
func ProbeKVM() error {
	return fmt.Errorf("%w: not on %s", ErrNoKVM, runtime.GOARCH)
}
