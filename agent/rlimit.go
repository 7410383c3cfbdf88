package agent

import (
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"runch/oci"
)

// rlimits turns the spec's limits into libcontainer's.
func rlimits(limits []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	if len(limits) == 0 {
		return nil, nil
	}
	numbers := oci.Rlimits()
	out := make([]configs.Rlimit, 0, len(limits))
	for _, l := range limits {
		typ, ok := numbers[l.Type]
		if !ok {
			return nil, invalidf("wrong rlimit value: %s", l.Type)
		}
		out = append(out, configs.Rlimit{Type: typ, Hard: l.Hard, Soft: l.Soft})
	}
	return out, nil
}
