package oci

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// IDMap maps the owners of a bind's files (mount_setattr(2), MOUNT_ATTR_IDMAP). A file
// that belongs to a mapping's container id on the file system belongs to the host id in
// the mount. A file that the host id creates in the mount belongs to the container id on
// the file system. An owner without a mapping shows as the kernel's overflow id.
// See "mounts" in the runtime specification's config.md.
type IDMap struct {
	// UIDs and GIDs are the mappings; neither is empty.
	UIDs, GIDs []specs.LinuxIDMapping
	// Recursive is for the mounts below the source as well (ridmap).
	Recursive bool
}

// idMapOptions ask for an id-mapped mount; the value says whether the mounts below
// it are mapped too.
var idMapOptions = map[string]bool{"idmap": false, "ridmap": true}

func isIDMapOption(option string) bool {
	_, ok := idMapOptions[option]
	return ok
}

// idMapOf returns the mapping that a mount asks for, nil for none, and the field that
// asks for it. An option alone means the mappings of the container's user namespace.
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

// validateIDMap refuses the mappings that runc refuses, with its messages. validateUser
// checks those that a mount takes from the container's user namespace.
func validateIDMap(spec *specs.Spec, field string, m specs.Mount) error {
	mapping, asking := idMapOf(spec, field, m)
	switch {
	case mapping == nil:
		return nil
	case !isBind(m):
		return fieldErrorf(asking, "id-mapped mounts are only supported for bind-mounts")
	case m.UIDMappings == nil && m.GIDMappings == nil && namespacesOf(spec.Linux).has(specs.UserNamespace) && mapping.UIDs != nil:
		return nil
	case len(mapping.UIDs) == 0 || len(mapping.GIDs) == 0:
		return fieldErrorf(asking, "id-mapped mounts must have both uid and gid mappings specified")
	}
	return nil
}
