package sandbox

import (
	"context"
	"fmt"
	"path"
	"strings"

	"runch/cgroup"
	"runch/oci"
	"runch/state"
)

// cgroupsPath is the spec's, or one of our own making.
func (r *Runtime) cgroupsPath(host *oci.HostPart, id string) string {
	switch {
	case host.CgroupsPath != "":
		return host.CgroupsPath
	case r.Systemd:
		return "system.slice:runch:" + id
	default:
		return "/runch/" + id
	}
}

// holderCgroup is the path of the cgroup of a pod's holder: it is beside those of
// the members, with the pod's id where theirs have their own.
func (r *Runtime) holderCgroup(host *oci.HostPart, id, pod string) string {
	member := r.cgroupsPath(host, id)
	if r.Systemd {
		slice, rest, _ := strings.Cut(member, ":")
		prefix, _, _ := strings.Cut(rest, ":")
		return slice + ":" + prefix + ":" + pod
	}
	dir, name := path.Split(path.Clean(member))
	if i := strings.LastIndex(name, id); i >= 0 {
		return dir + name[:i] + pod + name[i+len(id):]
	}
	return dir + "runch-" + pod
}

// newCgroup describes a cgroup to be made, and what the record has to know of it
// before it is.
func (r *Runtime) newCgroup(path string, limits cgroup.Limits, annotations map[string]string) (*cgroup.Cgroup, state.Cgroup, error) {
	group, err := cgroup.New(path, r.Systemd, limits, annotations)
	if err != nil {
		return nil, state.Cgroup{}, fmt.Errorf("make the cgroup %s: %w", path, err)
	}
	return group, state.Cgroup{Path: path, Systemd: r.Systemd, Paths: group.Paths()}, nil
}

// openCgroup opens a cgroup that a record knows.
func openCgroup(c state.Cgroup) (*cgroup.Cgroup, error) {
	return cgroup.Open(c.Path, c.Systemd, c.Paths)
}

func destroyCgroup(ctx context.Context, c state.Cgroup) error {
	group, err := openCgroup(c)
	if err != nil {
		return err
	}
	return group.Destroy(ctx)
}
