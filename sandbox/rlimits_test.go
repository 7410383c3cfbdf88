package sandbox

import (
	"os"
	"testing"

	"runch/oci"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestInheritedRlimits(t *testing.T) {
	var core, parents unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: core.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &core) })
	if err := unix.Prlimit(os.Getppid(), unix.RLIMIT_NOFILE, nil, &parents); err != nil {
		t.Fatal(err)
	}
	list, err := inheritedRlimits()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(oci.Rlimits()) {
		t.Errorf("%d limits", len(list))
	}
	for _, l := range list {
		switch {
		case l.Type == "RLIMIT_CORE" && (l.Soft != 0 || l.Hard != core.Max):
			t.Errorf("%+v", l)
		case l.Type == "RLIMIT_NOFILE" && l.Soft != parents.Cur:
			t.Errorf("%+v, and the parent's are %+v", l, parents)
		}
	}
	own := specs.POSIXRlimit{Type: "RLIMIT_CORE", Soft: 1, Hard: 2}
	with := oci.WithRlimits(&specs.Process{Rlimits: []specs.POSIXRlimit{own}}, list)
	if len(with.Rlimits) != len(list) || with.Rlimits[0] != own {
		t.Errorf("with its own limit: %+v", with.Rlimits)
	}
}
