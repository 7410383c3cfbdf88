package cloudhypervisor

import "golang.org/x/sys/unix"

// landlockABI is the version of landlock that the VMM needs.
const landlockABI = 3

// hasLandlock says whether this kernel has that version: without it, the VMM refuses
// a configuration with landlock_enable.
func hasLandlock() bool {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return errno == 0 && abi >= landlockABI
}
