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

// inheritedRlimits are the limits of this process, which a container's processes have
// with runc where their spec says nothing of them: they descend from it there. The guest
// has to be told.
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
// runtime has raised it to the hard one since; the caller, of whom it comes, has it still,
// unless it is a Go program itself.
func softFiles(own unix.Rlimit) uint64 {
	var callers unix.Rlimit
	if err := unix.Prlimit(os.Getppid(), unix.RLIMIT_NOFILE, nil, &callers); err != nil {
		return own.Cur // another user's, or of another pid namespace
	}
	return min(callers.Cur, own.Max)
}
