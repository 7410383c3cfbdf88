package agent

import (
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// The init of a container's process lives under the process's own limits before it
// becomes its program. The Go runtime may then need to map memory or to make a thread,
// and dies where it cannot. So an init with tight limits reserves what it will need
// before they apply. That takes as long as the whole start of a Go program, so all others
// do without.
const (
	// reserveVariable is the only variable of the agent's environment that libcontainer
	// hands to an init. Of a zero the Go runtime takes no notice.
	reserveVariable = "GOMAXPROCS"
	reserveValue    = "0"
	// manyThreads is a limit of processes that an init does not come near, as engines
	// set one for every container.
	manyThreads = 1 << 10
)

// reserveFor has every later init make room before its limits apply, if one of limits is
// tight. It is for all of them because a process without limits of its own gets those of
// its container.
func reserveFor(limits []configs.Rlimit) error {
	for _, l := range limits {
		if !tight(l) {
			continue
		}
		if err := os.Setenv(reserveVariable, reserveValue); err != nil {
			return fmt.Errorf("make room for the process's limits: %w", err)
		}
	}
	return nil
}

// InitReserves tells, in an init, whether it is to make room before its limits.
func InitReserves() bool { return os.Getenv(reserveVariable) == reserveValue }

// tight tells whether a limit can be met by the init of the process that it is for.
func tight(l configs.Rlimit) bool {
	switch l.Type {
	case unix.RLIMIT_AS, unix.RLIMIT_DATA:
		return l.Soft != unix.RLIM_INFINITY
	case unix.RLIMIT_NPROC:
		return l.Soft < manyThreads
	default:
		return false
	}
}
