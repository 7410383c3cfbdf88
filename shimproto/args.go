package shimproto

import (
	"slices"
	"strconv"
)

// ProgramName is what the processes that stay are called.
const ProgramName = "runch"

// Role is what a process of this program is for if it is not a command.
type Role string

const (
	// RoleShim takes its Setup from SetupFD.
	RoleShim Role = "shim"
	// RoleAnnounced is a RoleShim that says its pid first.
	RoleAnnounced Role = "announce"
	// RoleNest starts a RoleAnnounced in a pid namespace below its own, and ends. The
	// new process is a child of RoleNest's parent.
	RoleNest Role = "nest"
	// RoleVictim takes memory until the kernel's OOM killer ends it.
	RoleVictim Role = "victim"
)

// Invocation is how the program is started for a Role.
type Invocation struct {
	Role Role
	// Flags are those of clone(2) for the namespaces that RoleNest makes.
	Flags uintptr
	// Title has the arguments of the process that the shim stands for: callers that list
	// a container's processes show them. It is empty for a holder alone.
	Title []string
}

const (
	argShim = "shim"
	// argTitle ends the program's own arguments: what follows is only shown in the
	// command line.
	argTitle = "--"
	// maxTitle bounds the arguments of a process that the command line of its shim repeats,
	// in bytes.
	maxTitle = 4096
)

// Args are the program's arguments, which begin with its name.
func (i Invocation) Args() []string {
	args := []string{ProgramName, argShim}
	switch i.Role {
	case RoleShim:
	case RoleNest:
		args = append(args, string(i.Role), strconv.FormatUint(uint64(i.Flags), 10))
	default:
		args = append(args, string(i.Role))
	}
	if len(i.Title) == 0 {
		return args
	}
	args = append(args, argTitle)
	left := maxTitle
	for _, word := range i.Title {
		if left -= len(word) + 1; left < 0 {
			break
		}
		args = append(args, word)
	}
	return args
}

// ParseArgs gives the Invocation whose Args these are; false says that they are those
// of a command.
func ParseArgs(args []string) (Invocation, bool) {
	i := Invocation{Role: RoleShim}
	if len(args) < 2 || args[1] != argShim {
		return i, false
	}
	args = args[2:]
	if at := slices.Index(args, argTitle); at >= 0 {
		args, i.Title = args[:at], args[at+1:]
	}
	switch {
	case len(args) == 0:
		return i, true
	case len(args) == 2 && args[0] == string(RoleNest):
		flags, err := strconv.ParseUint(args[1], 10, 32)
		i.Role, i.Flags = RoleNest, uintptr(flags)
		return i, err == nil
	}
	i.Role = Role(args[0])
	return i, len(args) == 1 && (i.Role == RoleAnnounced || i.Role == RoleVictim)
}
