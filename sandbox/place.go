package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"runch/agentproto"
	"runch/oci"
	"runch/state"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// place is where a container goes: which sandbox, and what it has in common with
// the others in it.
type place struct {
	// sandbox is the id of the sandbox.
	sandbox string
	// own says that the sandbox is the container's own, and is made with it: its
	// shim holds the VM. Another one is joined, or made when it is not there.
	own bool
	// pod says that the container is one of a pod's.
	pod bool
	// shared are the namespaces that the container joins in the guest.
	shared []*agentproto.SharedNamespace
	// joined are the kinds of the namespaces that have a path and are not refused.
	joined map[specs.LinuxNamespaceType]bool
}

// place answers the question which sandbox a container is put into, by its
// annotations and by the namespaces that it is to join:
//
//   - the first container of a pod, and one that is alone, get a sandbox of their own;
//   - one that names a pod, or a namespace of a container that is there, joins that
//     one's sandbox;
//   - for a pod that has no container of its own a sandbox is made that bears its id,
//     with a holder alone.
func (r *Runtime) place(id string, spec *specs.Spec) (*place, error) {
	role, pod, err := oci.RoleOf(id, spec.Annotations)
	if err != nil {
		return nil, err
	}
	peers, err := r.peers(spec.Linux.Namespaces)
	if err != nil {
		return nil, err
	}
	targets, err := peers.targets(spec.Linux.Namespaces)
	if err != nil {
		return nil, err
	}
	p := &place{sandbox: id, own: true, pod: role != oci.Alone, joined: make(map[specs.LinuxNamespaceType]bool)}
	switch role {
	case oci.Member:
		p.own = false
		p.sandbox, err = r.sandboxOfPod(pod)
	case oci.Sandbox:
		if joined := sandboxesOf(targets); len(joined) > 0 {
			return nil, fmt.Errorf("linux.namespaces: the first container of a pod cannot join a namespace of the sandbox %s", joined[0])
		}
	default:
		joined := sandboxesOf(targets)
		if len(joined) > 1 {
			return nil, fmt.Errorf("linux.namespaces: namespaces of different sandboxes, %s", strings.Join(joined, " and "))
		}
		if len(joined) == 1 {
			p.own, p.sandbox = false, joined[0]
		}
	}
	if err != nil {
		return nil, err
	}
	return p, r.share(p, role, spec, targets)
}

// sandboxOfPod gives the id of a pod's sandbox, which need not be there yet.
func (r *Runtime) sandboxOfPod(pod string) (string, error) {
	c, err := r.Store.Load(pod)
	if errors.Is(err, state.ErrNotExist) {
		return pod, nil
	}
	if err != nil {
		return "", err
	}
	return c.Sandbox, nil
}

// share finds out whose namespaces the container joins in the guest.
func (r *Runtime) share(p *place, role oci.Role, spec *specs.Spec, targets map[specs.LinuxNamespaceType]target) error {
	for i, ns := range spec.Linux.Namespaces {
		t := targets[ns.Type]
		if ns.Type == specs.NetworkNamespace {
			if err := checkNetwork(i, p, ns); err != nil {
				return err
			}
			continue
		}
		switch {
		case ns.Path == "":
			if ns.Type == specs.UserNamespace && !p.own {
				return fmt.Errorf("linux.namespaces[%d]: a user namespace of its own: the network is that of the sandbox %s", i, p.sandbox)
			}
			continue
		case t.container != nil && t.container.Sandbox != p.sandbox, role == oci.Alone && t.container == nil:
			continue // refused, by its name, when the spec is split
		}
		p.joined[ns.Type] = true
		if p.own {
			continue // it is new in the guest, and the others join it
		}
		of, err := r.whose(p, ns, t)
		if err != nil {
			return fmt.Errorf("linux.namespaces[%d].path: %w", i, err)
		}
		p.shared = append(p.shared, &agentproto.SharedNamespace{Type: string(ns.Type), ContainerId: of})
	}
	return nil
}

// checkNetwork refuses a network that is not the sandbox's.
func checkNetwork(i int, p *place, ns specs.LinuxNamespace) error {
	if !p.own && ns.Path == "" {
		return fmt.Errorf("linux.namespaces[%d]: a network namespace of its own: containers in one VM have one network, that of the sandbox %s", i, p.sandbox)
	}
	return nil
}

// whose gives the container whose namespace is joined, "" for the sandbox's own: a
// path that belongs to no process is one that the caller has made for the pod.
func (r *Runtime) whose(p *place, ns specs.LinuxNamespace, t target) (string, error) {
	if t.container != nil {
		return t.container.ID, nil
	}
	s, err := r.Store.LoadSandbox(p.sandbox)
	if err != nil && !errors.Is(err, state.ErrNotExist) {
		return "", err
	}
	if s != nil && s.Owner != "" {
		return s.Owner, nil
	}
	if ns.Type == specs.PIDNamespace {
		return "", fmt.Errorf("%s is the pid namespace of no container in the sandbox %s", ns.Path, p.sandbox)
	}
	return "", nil
}

// peers are the containers that live, any of which a new one may join.
type peers []*state.Container

// peers are asked for only where a namespace may be one of theirs.
func (r *Runtime) peers(namespaces []specs.LinuxNamespace) (peers, error) {
	if !slices.ContainsFunc(namespaces, func(ns specs.LinuxNamespace) bool { return ns.Path != "" }) {
		return nil, nil
	}
	all, err := r.Store.List()
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	// A record that cannot be read is that container's affair, not this one's.
	var live peers
	for _, c := range all {
		if c.Ready && c.Shim.Alive() {
			live = append(live, c)
		}
	}
	return live, nil
}

// target is whose a namespace of a spec is.
type target struct {
	// container is nil where it belongs to none that is known.
	container *state.Container
}

// targets finds for each namespace with a path the container that it belongs to. A
// path that names a process which is no container's is refused.
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
	// A user namespace of the host is nobody's: shims have none of their own.
	if ns.Type == specs.UserNamespace {
		return target{}, nil
	}
	at, err := os.Stat(ns.Path)
	if err != nil {
		return target{}, fmt.Errorf("open the %s namespace: %w", ns.Type, err)
	}
	for _, c := range p {
		is, err := os.Stat(filepath.Join("/proc", strconv.Itoa(c.Shim.PID), "ns", procName(ns.Type)))
		if err == nil && os.SameFile(at, is) {
			return target{c}, nil
		}
	}
	if pid, ok := procPID(ns.Path); ok && ns.Type != specs.NetworkNamespace {
		return target{}, fmt.Errorf("cannot join the %s namespace %s: it is not in the container's VM, as process %d is no container's", ns.Type, ns.Path, pid)
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
