package commands

import (
	"context"
	"fmt"
	"strings"

	"runch/callers"
	"runch/sandbox"
)

// callerFindings returns a finding for each caller that is installed: whether its
// configuration has runch.
func callerFindings(ctx context.Context) []finding {
	var list []finding
	for _, caller := range callers.All() {
		found, err := caller.Look(ctx, thisHost())
		switch {
		case err != nil:
			list = append(list, finding{Name: caller.Name, Detail: shorten(err.Error())})
		case found != nil:
			list = append(list, callerFinding(caller, found))
		}
	}
	return list
}

func callerFinding(caller *callers.Caller, found *callers.Found) finding {
	f := finding{Name: caller.Name, Fix: name + " install " + caller.Name}
	version := found.Version
	if !found.Tried {
		version += fmt.Sprintf(" (%s was tried with %s)", name, caller.Tried())
	}
	switch {
	case found.Program == "":
		f.Detail = version + ": its configuration does not have " + name
	case !sandbox.IsThisProgram(found.Program):
		f.Detail = fmt.Sprintf("%s: it calls %s, which is not this program", version, found.Program)
	case len(found.Lacks) > 0:
		f.Detail = fmt.Sprintf("%s: %s is not in %s", version, name, strings.Join(found.Lacks, " and "))
	default:
		f.OK, f.Fix = true, ""
		f.Detail = version + ": it calls " + found.Program
		if found.Default {
			f.Detail += " by default"
		}
	}
	return f
}
