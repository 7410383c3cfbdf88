package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"runch/cgroup"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// cgroupsPath is the spec's path or, if it names none, a default. The default of a user
// who is not root on the host is beside the caller's own cgroup.
func (r *Runtime) cgroupsPath(host *oci.HostPart, id string) string {
	switch {
	case host.CgroupsPath != "":
		return host.CgroupsPath
	case r.Systemd && cgroup.Rootless():
		return "user.slice:runch:" + id
	case r.Systemd:
		return "system.slice:runch:" + id
	case cgroup.Rootless():
		return "runch-" + id
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

// newCgroup describes a cgroup that is to be made, and gives what has to be recorded of
// it before that.
func (r *Runtime) newCgroup(path string, limits cgroup.Limits, annotations map[string]string) (*cgroup.Cgroup, state.Cgroup, error) {
	group, err := cgroup.New(path, r.Systemd, limits, annotations)
	if err != nil {
		return nil, state.Cgroup{}, fmt.Errorf("make the cgroup %s: %w", path, err)
	}
	return group, state.Cgroup{Path: path, Systemd: r.Systemd, Paths: group.Paths()}, nil
}

// enterCgroup puts a process of the container's into a cgroup that newCgroup has
// described, and gives the cgroup that it is in then. That is empty where the process
// stays in the caller's: the spec names no cgroup, this user may not make one, and no
// limit needs one.
func (c *creation) enterCgroup(group *cgroup.Cgroup, made state.Cgroup, pid int) (state.Cgroup, error) {
	err := group.Apply(pid)
	if err == nil {
		return made, nil
	}
	// Apply has removed what it made. A cgroup that was there before is not the container's.
	err = fmt.Errorf("enter the cgroup %s: %w", made.Path, err)
	if c.host.CgroupsPath != "" || !errors.Is(err, cgroup.ErrNotDelegated) {
		return state.Cgroup{}, err
	}
	if field := heldByHost(c.record.Resources); field != "" {
		return state.Cgroup{}, fmt.Errorf("%s is held by a cgroup on the host: %w", field, err)
	}
	c.r.Log.Debug("the container has no cgroup of its own on the host", "reason", err)
	return state.Cgroup{}, nil
}

// errNoCgroup says that a container has none on the host.
var errNoCgroup = errors.New("is held by a cgroup on the host, and the container was made by a user who could not make one")

// heldByHost names a field that only a cgroup on the host can enforce, empty for none. The
// guest enforces a container's other limits, and the VM is no larger than they are.
func heldByHost(r *specs.LinuxResources) string {
	switch {
	case r == nil:
		return ""
	case r.CPU != nil && r.CPU.Cpus != "":
		return "linux.resources.cpu.cpus"
	case r.CPU != nil && r.CPU.Mems != "":
		return "linux.resources.cpu.mems"
	case r.BlockIO != nil:
		return "linux.resources.blockIO"
	}
	return ""
}

// openCgroup opens a cgroup that a record knows; nil where there is none.
func openCgroup(c state.Cgroup) (*cgroup.Cgroup, error) {
	if c.Path == "" {
		return nil, nil
	}
	return cgroup.Open(c.Path, c.Systemd, c.Paths)
}

func destroyCgroup(ctx context.Context, c state.Cgroup) error {
	group, err := openCgroup(c)
	if err != nil {
		return err
	}
	return group.Destroy(ctx)
}
