package sandbox

import (
	"errors"
	"fmt"
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
	// shim holds the VM. Otherwise the container joins a sandbox, which is made first
	// if it is not there.
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
//   - a pod without a container of its own gets a sandbox with the pod's id, whose holder
//     is no container's shim; podman's pods do not (oci.MemberOrAlone).
func (r *Runtime) place(id string, spec *specs.Spec) (*place, error) {
	role, sandbox, err := r.roleOf(id, spec.Annotations)
	if err != nil {
		return nil, err
	}
	targets, err := r.peers(spec.Linux.Namespaces).targets(spec.Linux.Namespaces)
	if err != nil {
		return nil, err
	}
	p := &place{sandbox: sandbox, own: role != oci.Member, pod: role != oci.Alone, joined: make(map[specs.LinuxNamespaceType]bool)}
	switch role {
	case oci.Member:
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
	return p, r.share(p, role, spec, targets)
}

// roleOf reads the annotations, and gives the id of the sandbox that they lead to. It
// need not be there yet.
func (r *Runtime) roleOf(id string, annotations map[string]string) (oci.Role, string, error) {
	role, pod, err := oci.RoleOf(id, annotations)
	if err != nil || (role != oci.Member && role != oci.MemberOrAlone) {
		return role, id, err
	}
	first, err := r.Store.Load(pod)
	switch {
	case err == nil:
		return oci.Member, first.Sandbox, nil
	case !errors.Is(err, state.ErrNotExist):
		return role, "", err
	case role == oci.MemberOrAlone:
		return oci.Alone, id, nil
	}
	return oci.Member, pod, nil
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
			continue // oci.Split refuses it, and names the field
		}
		p.joined[ns.Type] = true
		if p.own {
			continue // the namespace is new in the guest, and other members join it
		}
		of, err := r.whose(p, ns, t)
		if err != nil {
			return fmt.Errorf("linux.namespaces[%d].path: %w", i, err)
		}
		p.shared = append(p.shared, &agentproto.SharedNamespace{Type: string(ns.Type), ContainerId: of})
	}
	return nil
}

// checkNetwork refuses a new network namespace for a container that joins a sandbox. That
// a path leads to the sandbox's network is checked under the sandbox's lock.
func checkNetwork(i int, p *place, ns specs.LinuxNamespace) error {
	if !p.own && ns.Path == "" {
		return fmt.Errorf("linux.namespaces[%d]: a network namespace of its own: containers in one VM have one network, that of the sandbox %s", i, p.sandbox)
	}
	return nil
}

// whose gives the id of the container whose namespace is joined. A namespace that is no
// container's is one that the caller has made for the pod: it stands for the owner's, or
// for the sandbox's own ("") if that has no owner.
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
