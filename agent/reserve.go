package agent

import (
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// The init of a container's process gets the process's limits before it executes the
// program. The Go runtime may then still need to map memory or to make a thread, and dies
// if it cannot. So an init with tight limits reserves what it will need before they apply.
// That takes as long as the whole start of a Go program, so all other inits do without.
const (
	// reserveVariable is the only variable of the agent's environment that libcontainer
	// hands to an init. The Go runtime ignores a value of 0.
	reserveVariable = "GOMAXPROCS"
	reserveValue    = "0"
	// manyThreads is far more threads than an init has. Engines set a limit of
	// processes for every container; one of at least manyThreads is not tight.
	manyThreads = 1 << 10
)

// reserveFor makes every later init reserve memory and threads before its limits apply, if
// one of limits is tight. Every init, because a process without limits of its own gets those
// of its container.
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

// InitReserves tells an init whether to reserve memory and threads before its limits apply.
func InitReserves() bool { return os.Getenv(reserveVariable) == reserveValue }

// tight tells whether an init could reach the limit.
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
