package shim

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"runch/agentproto"
	"runch/oci"
	"runch/storage"

	"golang.org/x/sys/unix"
)

// volumesOf lists the directories of the host among a container's binds. Their identities
// let the guest recognize a directory that several containers have. mounts are the clones
// of the binds, submounts what the host has mounted below them.
func volumesOf(share string, binds []oci.Bind, mounts []storage.Mount, submounts []string) ([]*agentproto.Volume, error) {
	var list []*agentproto.Volume
	for i, b := range binds {
		below := func(path string) bool { return strings.HasPrefix(path, b.GuestSource+"/") }
		if b.IDMap != nil || slices.ContainsFunc(submounts, below) {
			continue // another container may see other owners, or other mounts
		}
		var st unix.Stat_t
		var fs unix.Statfs_t
		fd := int(mounts[i].File.Fd())
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, fmt.Errorf("look at the volume %s: %w", b.Source, err)
		}
		if err := unix.Fstatfs(fd, &fs); err != nil {
			return nil, fmt.Errorf("look at the volume %s: %w", b.Source, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		identity := fmt.Sprintf("%d:%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
		if b.Slave {
			identity += ":slave"
		}
		if fs.Flags&unix.ST_RDONLY != 0 && !b.ReadOnly {
			// The host's mount is read-only, not the container's bind of it.
			identity += ":ro"
		}
		list = append(list, &agentproto.Volume{
			Path: filepath.Join(share, b.GuestSource), Identity: identity, ReadOnly: b.ReadOnly,
		})
	}
	return list, nil
}
