package process

import (
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUserFor(t *testing.T) {
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	inGroup := &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{104}}
	tests := map[string]struct {
		device   syscall.Stat_t
		inUserNS bool
		want     *syscall.Credential
	}{
		"open to all":                       {syscall.Stat_t{Mode: 0o666}, false, nobody},
		"open to all, in a user namespace":  {syscall.Stat_t{Mode: 0o666, Uid: 65534, Gid: 65534}, true, nobody},
		"open to a group":                   {syscall.Stat_t{Mode: 0o660, Gid: 104}, false, inGroup},
		"open to root alone":                {syscall.Stat_t{Mode: 0o600}, false, nil},
		"its own":                           {syscall.Stat_t{Mode: 0o600, Uid: 65534}, false, nobody},
		"its own group":                     {syscall.Stat_t{Mode: 0o660, Gid: 65534}, false, nobody},
		"a group known in a user namespace": {syscall.Stat_t{Mode: 0o660, Uid: 65534, Gid: 104}, true, inGroup},
		"no one known in a user namespace":  {syscall.Stat_t{Mode: 0o660, Uid: 65534, Gid: 65534}, true, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, userFor(nobody, &tt.device, tt.inUserNS)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
