package oci

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Linux's real-time signals as kill(1) and the C library number them: the C library
// keeps the kernel's first two, 32 and 33, for its threads (signal(7)).
const (
	sigRTMin  = 34
	sigRTMax  = 64
	maxSignal = sigRTMax
)

// ParseSignal reads a signal as `kill` takes it: a number from 0 (which only
// asks whether the process is there) to 64, or a name in any case, with or
// without SIG, real-time names as RTMIN+n and RTMAX-n included.
func ParseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > maxSignal {
			return -1, fmt.Errorf("unknown signal %.64q", s)
		}
		return unix.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig, ok := realTimeSignal(name); ok {
		return sig, nil
	}
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	return -1, fmt.Errorf("unknown signal %.64q", s)
}

// realTimeSignal reads RTMIN, RTMIN+n, RTMAX and RTMAX-n.
func realTimeSignal(name string) (unix.Signal, bool) {
	base, sign := sigRTMin, 1
	rest, ok := strings.CutPrefix(name, "RTMIN")
	if !ok {
		base, sign = sigRTMax, -1
		if rest, ok = strings.CutPrefix(name, "RTMAX"); !ok {
			return 0, false
		}
	}
	if rest == "" {
		return unix.Signal(base), true
	}
	if sign > 0 && rest[0] != '+' || sign < 0 && rest[0] != '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[1:], 10, 8)
	if err != nil || n > sigRTMax-sigRTMin {
		return 0, false
	}
	return unix.Signal(base + sign*int(n)), true
}
