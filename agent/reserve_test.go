package agent

import (
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

func TestOnlyTightLimitsHaveAnInitMakeRoom(t *testing.T) {
	for name, c := range map[string]struct {
		limits []configs.Rlimit
		want   bool
	}{
		"none":                  {nil, false},
		"files":                 {[]configs.Rlimit{{Type: unix.RLIMIT_NOFILE, Soft: 10, Hard: 10}}, false},
		"memory without limit":  {[]configs.Rlimit{{Type: unix.RLIMIT_AS, Soft: unix.RLIM_INFINITY, Hard: unix.RLIM_INFINITY}}, false},
		"memory":                {[]configs.Rlimit{{Type: unix.RLIMIT_AS, Soft: 1 << 30, Hard: unix.RLIM_INFINITY}}, true},
		"data":                  {[]configs.Rlimit{{Type: unix.RLIMIT_NOFILE, Soft: 10}, {Type: unix.RLIMIT_DATA, Soft: 1 << 30}}, true},
		"an engine's processes": {[]configs.Rlimit{{Type: unix.RLIMIT_NPROC, Soft: 1 << 20}}, false},
		"few processes":         {[]configs.Rlimit{{Type: unix.RLIMIT_NPROC, Soft: 20}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(reserveVariable, "")
			if err := reserveFor(c.limits); err != nil {
				t.Fatal(err)
			}
			if got := InitReserves(); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			if err := reserveFor(nil); err != nil || InitReserves() != c.want {
				t.Errorf("a process without limits changes it: %v", err)
			}
		})
	}
}
