package process

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runch/hypervisor"
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

// TestUserForIsMapped: without subordinate ids, the only user in the user namespace is root,
// which is the caller. The test runs itself again in such a namespace.
func TestUserForIsMapped(t *testing.T) {
	const inside = "RUNCH_TEST_IN_USER_NAMESPACE"
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	got := UserFor(nobody, hypervisor.AccelTCG)
	if os.Getenv(inside) != "" {
		if got != nil {
			t.Errorf("%v, with root's id alone", got)
		}
		return
	}
	if got != nobody {
		t.Errorf("%v, with all ids", got)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}
