package cloudhypervisor

import "golang.org/x/sys/unix"

// landlockABI is the one that the VMM asks the kernel for.
const landlockABI = 3

// hasLandlock says whether this kernel has what the VMM wants: it refuses the VM
// where it has not.
func hasLandlock() bool {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return errno == 0 && abi >= landlockABI
}
