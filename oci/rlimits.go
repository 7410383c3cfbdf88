package oci

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Rlimits are the limits that Linux has, each with its number in setrlimit(2).
func Rlimits() map[string]int {
	return map[string]int{
		"RLIMIT_AS":         unix.RLIMIT_AS,
		"RLIMIT_CORE":       unix.RLIMIT_CORE,
		"RLIMIT_CPU":        unix.RLIMIT_CPU,
		"RLIMIT_DATA":       unix.RLIMIT_DATA,
		"RLIMIT_FSIZE":      unix.RLIMIT_FSIZE,
		"RLIMIT_LOCKS":      unix.RLIMIT_LOCKS,
		"RLIMIT_MEMLOCK":    unix.RLIMIT_MEMLOCK,
		"RLIMIT_MSGQUEUE":   unix.RLIMIT_MSGQUEUE,
		"RLIMIT_NICE":       unix.RLIMIT_NICE,
		"RLIMIT_NOFILE":     unix.RLIMIT_NOFILE,
		"RLIMIT_NPROC":      unix.RLIMIT_NPROC,
		"RLIMIT_RSS":        unix.RLIMIT_RSS,
		"RLIMIT_RTPRIO":     unix.RLIMIT_RTPRIO,
		"RLIMIT_RTTIME":     unix.RLIMIT_RTTIME,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
		"RLIMIT_STACK":      unix.RLIMIT_STACK,
	}
}

// WithRlimits returns a copy of p with those limits added whose type p does not set.
func WithRlimits(p *specs.Process, limits []specs.POSIXRlimit) *specs.Process {
	with := *p
	with.Rlimits = slices.Clone(p.Rlimits)
	for _, l := range limits {
		if !slices.ContainsFunc(p.Rlimits, func(own specs.POSIXRlimit) bool { return own.Type == l.Type }) {
			with.Rlimits = append(with.Rlimits, l)
		}
	}
	return &with
}

func validateRlimits(p *specs.Process) error {
	known := Rlimits()
	seen := make(map[string]bool, len(p.Rlimits))
	for i, l := range p.Rlimits {
		field := index("process.rlimits", i)
		_, ok := known[l.Type]
		switch {
		case !ok:
			return fieldErrorf(field+".type", "wrong rlimit value: %s", l.Type)
		case seen[l.Type]:
			// The runtime spec requires an error for a type that is given twice.
			return fieldErrorf(field+".type", "%s is given twice", l.Type)
		case l.Soft > l.Hard:
			return fieldErrorf(field+".soft", "%d is more than the hard limit %d", l.Soft, l.Hard)
		}
		seen[l.Type] = true
	}
	return nil
}
