package oci

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// IDMap says as whose the files of a bind are seen: an owner that is in a
// mapping's container ids on the file system has the host id beside it in the
// mount, and the other way around where a file is made. Who is in no mapping is
// nobody there. See "mounts" in the runtime specification's config.md.
type IDMap struct {
	// UIDs and GIDs are the mappings, none of them without any.
	UIDs, GIDs []specs.LinuxIDMapping
	// Recursive is for the mounts below the source as well (ridmap).
	Recursive bool
}

// idMapOptions ask for an id-mapped mount, and tell whether those below it are
// to be mapped too.
var idMapOptions = map[string]bool{"idmap": false, "ridmap": true}

func isIDMapOption(option string) bool {
	_, ok := idMapOptions[option]
	return ok
}

// idMapOf is the mapping that a mount asks for, and the field where it does; nil
// for none. An option alone means the mappings of the container's user namespace.
func idMapOf(spec *specs.Spec, field string, m specs.Mount) (mapping *IDMap, asking string) {
	recursive := false
	for i, o := range m.Options {
		if below, ok := idMapOptions[o]; ok {
			recursive, asking = below, index(field+".options", i) // the last counts, as with runc
		}
	}
	switch {
	case m.UIDMappings != nil:
		asking = field + ".uidMappings"
	case m.GIDMappings != nil:
		asking = field + ".gidMappings"
	case asking != "":
		return &IDMap{UIDs: spec.Linux.UIDMappings, GIDs: spec.Linux.GIDMappings, Recursive: recursive}, asking
	default:
		return nil, ""
	}
	return &IDMap{UIDs: m.UIDMappings, GIDs: m.GIDMappings, Recursive: recursive}, asking
}

// validateIDMap refuses the mappings that runc refuses, in its words. Those that
// a mount takes from the container's user namespace are validateUser's to check.
func validateIDMap(spec *specs.Spec, field string, m specs.Mount) error {
	mapping, asking := idMapOf(spec, field, m)
	switch {
	case mapping == nil:
		return nil
	case !isBind(m):
		return bad(asking, "id-mapped mounts are only supported for bind-mounts")
	case m.UIDMappings == nil && m.GIDMappings == nil && namespacesOf(spec.Linux).has(specs.UserNamespace) && mapping.UIDs != nil:
		return nil
	case len(mapping.UIDs) == 0 || len(mapping.GIDs) == 0:
		return bad(asking, "id-mapped mounts must have both uid and gid mappings specified")
	}
	return nil
}
