package storage

import (
	"fmt"
	"os"
	"path"
	"path/filepath"

	"runch/oci"

	"github.com/moby/sys/mountinfo"
)

// RootfsPath is where a container's rootfs is in its part of the shared
// directory. Its volumes are where oci.Bind says.
const RootfsPath = "rootfs"

// Mount is a tree of mounts that is not attached anywhere yet, and where it
// belongs in a container's part of the shared directory.
type Mount struct {
	Path string
	// File is what open_tree(2) gave. Whoever attaches the tree closes it.
	File *os.File
}

// CloseMounts closes the files of trees. A tree that is not attached ends with its file.
func CloseMounts(mounts []Mount) {
	for _, m := range mounts {
		_ = m.File.Close()
	}
}

// Clone clones a container's rootfs and volumes as this process sees them. The
// originals may be unmounted afterwards. It also returns the paths of the mounts below
// them that are cloned along, relative to the container's part of the shared
// directory, each after the mount that contains it.
func Clone(rootfs string, binds []oci.Bind) (mounts []Mount, submounts []string, err error) {
	defer func() {
		if err != nil {
			CloseMounts(mounts)
			mounts = nil
		}
	}()
	all := append([]oci.Bind{{Source: rootfs, GuestSource: RootfsPath, Recursive: true}}, binds...)
	for i, b := range all {
		tree, err := cloneBind(b, rootfs)
		if err != nil {
			what := "volume"
			if i == 0 {
				what = "rootfs"
			}
			return mounts, nil, fmt.Errorf("share the %s %s: %w", what, b.Source, err)
		}
		mounts = append(mounts, Mount{Path: b.GuestSource, File: os.NewFile(uintptr(tree.fd), b.Source)})
	}
	submounts, err = submountsOf(all)
	return mounts, submounts, err
}

// cloneBind clones the source of a bind and sets the attributes that it has in the guest.
// It makes an overlay where the bind is one, with dir as the mount point for a moment.
func cloneBind(b oci.Bind, dir string) (tree *mountTree, err error) {
	if b.Overlay != nil {
		tree, err = newOverlay(dir, b.Overlay)
	} else {
		tree, err = cloneTree(b.Source, b.Recursive)
	}
	if err != nil {
		return nil, err
	}
	if b.IDMap != nil {
		err = tree.mapIDs(b.Source, b.IDMap)
	}
	if err == nil && !b.Slave {
		err = tree.private()
	}
	if err == nil && b.ReadOnly {
		err = tree.readOnly(b.ReadOnlyBelow)
	}
	if err != nil {
		tree.close()
		return nil, err
	}
	return tree, nil
}

// maxSubmounts bounds the list of mounts from Clone. The guest finds the others when
// they are used.
const maxSubmounts = 1024

// submountsOf lists the mounts below the sources.
func submountsOf(binds []oci.Bind) ([]string, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list the container's mounts: %w", err)
	}
	var below []string
	for _, b := range binds {
		source, err := filepath.EvalSymlinks(b.Source)
		if err != nil || !b.Recursive {
			continue // the target of a link in /proc/PID/fd need not be a path
		}
		for _, m := range mounts {
			rel, err := filepath.Rel(source, m.Mountpoint)
			if err == nil && rel != "." && filepath.IsLocal(rel) {
				below = append(below, path.Join(b.GuestSource, rel))
			}
		}
	}
	return below[:min(len(below), maxSubmounts)], nil
}
