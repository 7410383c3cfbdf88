package sandbox

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// peers are the containers that live, any of which a new one may join.
type peers []*state.Container

// peers lists the live containers. The list is nil if no namespace has a path, because
// then none can be one of theirs.
func (r *Runtime) peers(namespaces []specs.LinuxNamespace) peers {
	if !slices.ContainsFunc(namespaces, func(ns specs.LinuxNamespace) bool { return ns.Path != "" }) {
		return nil
	}
	// Without a root directory there are no containers. One whose record cannot be read is
	// left out; its namespaces are then refused, as those of a foreign process are.
	all, _ := r.Store.List()
	var live peers
	for _, c := range all {
		if c.Ready && c.Shim.Alive() {
			live = append(live, c)
		}
	}
	return live
}

// target says which container a namespace in a spec belongs to.
type target struct {
	// container is nil if the namespace belongs to no known container.
	container *state.Container
}

// targets finds for each namespace with a path the container that it belongs to. The
// path of a process that is no container's is refused, except for a network namespace.
func (p peers) targets(namespaces []specs.LinuxNamespace) (map[specs.LinuxNamespaceType]target, error) {
	found := make(map[specs.LinuxNamespaceType]target)
	for i, ns := range namespaces {
		if ns.Path == "" {
			continue
		}
		t, err := p.target(ns)
		if err != nil {
			return nil, fmt.Errorf("linux.namespaces[%d].path: %w", i, err)
		}
		found[ns.Type] = t
	}
	return found, nil
}

func (p peers) target(ns specs.LinuxNamespace) (target, error) {
	if pid, ok := procPID(ns.Path); ok {
		for _, c := range p {
			if c.Shim.PID == pid {
				return target{c}, nil
			}
		}
	}
	at, err := os.Stat(ns.Path)
	if err != nil {
		return target{}, fmt.Errorf("open the %s namespace: %w", ns.Type, err)
	}
	for _, c := range p {
		if ns.Type == specs.UserNamespace {
			break // shims have none of their own: the inode of one is that of all
		}
		is, err := os.Stat(nsPath(c.Shim.PID, procName(ns.Type)))
		if err == nil && os.SameFile(at, is) {
			return target{c}, nil
		}
	}
	if pid, ok := procPID(ns.Path); ok && ns.Type != specs.NetworkNamespace {
		return target{}, oci.OutsideErrorf("cannot join the %s namespace %s: it is not in the container's VM, as process %d is no container's", ns.Type, ns.Path, pid)
	}
	return target{}, nil
}

// sandboxesOf are the ids of the sandboxes that targets are in.
func sandboxesOf(targets map[specs.LinuxNamespaceType]target) []string {
	var ids []string
	seen := make(map[string]bool)
	for _, t := range targets {
		if t.container != nil && !seen[t.container.Sandbox] {
			seen[t.container.Sandbox] = true
			ids = append(ids, t.container.Sandbox)
		}
	}
	return ids
}

// procPID is the process in a path such as /proc/7/ns/net.
func procPID(p string) (int, bool) {
	rest, ok := strings.CutPrefix(path.Clean(p), "/proc/")
	if !ok {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, "/")
	pid, err := strconv.Atoi(digits)
	return pid, err == nil
}

// procName is what a kind of namespace is called in /proc/PID/ns.
func procName(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.NetworkNamespace:
		return "net"
	case specs.MountNamespace:
		return "mnt"
	default:
		return string(t)
	}
}
