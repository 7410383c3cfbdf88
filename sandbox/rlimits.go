package sandbox

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"runch/oci"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inheritedRlimits are the limits of this process. With runc, a container's processes
// inherit those that their spec does not set, because they descend from runc. A guest has
// to be told.
func inheritedRlimits() ([]specs.POSIXRlimit, error) {
	numbers := oci.Rlimits()
	var list []specs.POSIXRlimit
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		var l unix.Rlimit
		if err := unix.Getrlimit(numbers[name], &l); err != nil {
			return nil, fmt.Errorf("read the limit %s: %w", name, err)
		}
		if numbers[name] == unix.RLIMIT_NOFILE {
			l.Cur = softFiles(l)
		}
		list = append(list, specs.POSIXRlimit{Type: name, Soft: l.Cur, Hard: l.Max})
	}
	return list, nil
}

// softFiles is the soft limit of open files that this process was started with. The Go
// runtime has raised it to the hard one since. The caller, from which it was inherited, has
// it still, unless that is a Go program itself. For a caller in another pid namespace,
// getppid(2) gives 0, and prlimit(2) then reads this process's own limit.
func softFiles(own unix.Rlimit) uint64 {
	var callers unix.Rlimit
	if err := unix.Prlimit(os.Getppid(), unix.RLIMIT_NOFILE, nil, &callers); err != nil {
		return own.Cur // the caller is another user's process
	}
	return min(callers.Cur, own.Max)
}
