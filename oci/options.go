package oci

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// flagOptions are the mount options that are flags of mount(2), by runc's table.
var flagOptions = map[string]bool{
	"async": true, "atime": true, "bind": true, "defaults": true, "dev": true, "diratime": true, "dirsync": true,
	"exec": true, "iversion": true, "lazytime": true, "loud": true, "mand": true, "noatime": true, "nodev": true,
	"nodiratime": true, "noexec": true, "noiversion": true, "nolazytime": true, "nomand": true, "norelatime": true,
	"nostrictatime": true, "nosuid": true, "nosymfollow": true, "rbind": true, "relatime": true, "remount": true,
	"ro": true, "rw": true, "silent": true, "strictatime": true, "suid": true, "symfollow": true, "sync": true,
}

// propagationOptions set a mount's propagation type; see mount_namespaces(7).
var propagationOptions = map[string]bool{
	"private": true, "rprivate": true, "rshared": true, "rslave": true, "runbindable": true, "shared": true,
	"slave": true, "unbindable": true,
}

// recursiveOptions are attributes of mount_setattr(2) for a whole tree.
var recursiveOptions = map[string]bool{
	"ratime": true, "rdev": true, "rdiratime": true, "rexec": true, "rnoatime": true, "rnodev": true,
	"rnodiratime": true, "rnoexec": true, "rnorelatime": true, "rnostrictatime": true, "rnosuid": true,
	"rnosymfollow": true, "rrelatime": true, "rro": true, "rrw": true, "rstrictatime": true, "rsuid": true,
	"rsymfollow": true,
}

// extensionOptions are options that libcontainer implements, and not the kernel.
var extensionOptions = map[string]bool{"tmpcopyup": true}

// isDataOption tells whether an option is one of a filesystem's driver, which mount(2)
// takes as data.
func isDataOption(option string) bool {
	return !flagOptions[option] && !propagationOptions[option] && !recursiveOptions[option] &&
		!extensionOptions[option] && !isIDMapOption(option)
}

// hasOption tells whether a mount has one of the options.
func hasOption(m specs.Mount, options ...string) bool {
	for _, o := range m.Options {
		for _, wanted := range options {
			if o == wanted {
				return true
			}
		}
	}
	return false
}

// isBind tells whether a mount is a bind. The options decide, as mount(2) has a flag
// for it and no type; callers that send the type alone mean the same.
func isBind(m specs.Mount) bool { return m.Type == "bind" || hasOption(m, "bind", "rbind") }

// isReadOnly tells whether a mount, and whether the mounts below it, are read-only. Of
// contradictory options the last counts.
func isReadOnly(m specs.Mount) (itself, below bool) {
	ro, rro := false, false
	for _, o := range m.Options {
		switch o {
		case "ro":
			ro = true
		case "rw":
			ro = false
		case "rro":
			rro = true
		case "rrw":
			rro = false
		}
	}
	return ro || rro, rro
}
