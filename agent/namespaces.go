package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// namespaceDir is where the sandbox's own namespaces are bound, so that they
// outlive the container that made them.
const namespaceDir = "/run/runch/ns"

// namespaces are the sandbox's own. It is safe for concurrent use.
type namespaces struct {
	dir string
	// deciding holds a token while one container decides which namespaces it joins
	// and which it makes for the sandbox, and until it has made them. Otherwise two
	// containers that are made at once could both make one.
	deciding chan struct{}
	// made are the types that are bound in dir. Only the holder of the token uses it.
	made map[specs.LinuxNamespaceType]bool
	// containers counts those that live or are being made.
	containers atomic.Int32
}

func newNamespaces(dir string) *namespaces {
	return &namespaces{dir: dir, deciding: make(chan struct{}, 1), made: make(map[specs.LinuxNamespaceType]bool)}
}

// procName is what /proc/PID/ns calls a type of namespace that containers of a
// sandbox can share. It is empty for all others.
func procName(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.NetworkNamespace:
		return "net"
	case specs.IPCNamespace, specs.UTSNamespace, specs.PIDNamespace, specs.UserNamespace:
		return string(t)
	default:
		return ""
	}
}

// sharing is what one container shares with others of the sandbox.
type sharing struct {
	all *namespaces
	// decides says that it has the token.
	decides bool
	// files are namespaces of other containers. They are held open until the
	// container has joined them: a pid may be another process's by then.
	files []*os.File
	// pidOwner is the container whose pid namespace is joined, nil where none is.
	pidOwner *container
	// makes are the sandbox's own that this container is the first to ask for.
	makes []specs.LinuxNamespaceType
	// network says that its network namespace becomes the sandbox's.
	network bool
}

// join writes into the spec's namespaces which ones the container joins. With no
// error, the caller calls finish when the container is made, and leave when it
// is no more. find gives the containers of the sandbox.
func (n *namespaces) join(ctx context.Context, shared []*agentproto.SharedNamespace, spec *specs.Linux, find func(id string) (*container, error)) (*sharing, error) {
	select {
	case n.deciding <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the sandbox's namespaces: %w", ctx.Err())
	}
	s := &sharing{all: n, decides: true}
	for _, ns := range shared {
		if err := s.add(ns, spec, find); err != nil {
			s.finish(err)
			return nil, err
		}
	}
	s.addNetwork(spec)
	n.containers.Add(1)
	if len(s.makes) == 0 && !s.network {
		s.decided()
	}
	return s, nil
}

// leave says that a container is no more.
func (n *namespaces) leave() { n.containers.Add(-1) }

func (n *namespaces) path(t specs.LinuxNamespaceType) string {
	return filepath.Join(n.dir, procName(t))
}

// entry finds the spec's namespace of type t.
func entry(spec *specs.Linux, t specs.LinuxNamespaceType) *specs.LinuxNamespace {
	i := slices.IndexFunc(spec.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
	if i < 0 {
		return nil
	}
	return &spec.Namespaces[i]
}

// add has the container share one namespace.
func (s *sharing) add(ns *agentproto.SharedNamespace, spec *specs.Linux, find func(id string) (*container, error)) error {
	t := specs.LinuxNamespaceType(ns.GetType())
	e := entry(spec, t)
	if id := ns.GetContainerId(); id != "" {
		owner, file, err := openNamespace(id, t, find)
		if err != nil {
			return joinError(t, id, err)
		}
		s.files = append(s.files, file)
		if t == specs.PIDNamespace {
			s.pidOwner = owner
		}
		// The path names the agent, because libcontainer's child opens it. The dot keeps
		// libcontainer from reading the agent's user mappings: it takes a path that begins
		// with /proc/PID for a namespace of that process.
		e.Path = fmt.Sprintf("/proc/./%d/fd/%d", os.Getpid(), file.Fd())
		return nil
	}
	switch {
	case t == specs.NetworkNamespace: // the boot made it; see addNetwork
	case s.all.made[t]:
		e.Path = s.all.path(t)
	default:
		s.makes = append(s.makes, t)
	}
	return nil
}

func joinError(t specs.LinuxNamespaceType, id string, err error) error {
	return fmt.Errorf("cannot join the %s namespace of container %s: %w", t, id, err)
}

// openNamespace opens a namespace of a container's init, which must live.
func openNamespace(id string, t specs.LinuxNamespaceType, find func(id string) (*container, error)) (*container, *os.File, error) {
	c, err := find(id)
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", c.init.pid, procName(t)))
	if errors.Is(err, os.ErrNotExist) { // the process has just ended
		return nil, nil, errNotRunning
	}
	if err != nil {
		return nil, nil, err
	}
	if c.init.ending() {
		_ = file.Close()
		return nil, nil, errNotRunning
	}
	return c, file, nil
}

// explain replaces libcontainer's error by the reason why it could not start the container's
// process, if it is this: in a pid namespace whose init is exiting the kernel makes no process
// (ENOMEM). The init may have begun to exit after the namespace was opened.
func (s *sharing) explain(err error) error {
	if err != nil && s.pidOwner != nil && s.pidOwner.init.ending() {
		return joinError(specs.PIDNamespace, s.pidOwner.id, errNotRunning)
	}
	return err
}

// addNetwork decides which network namespace a container gets whose spec gives no path
// for it. The kernel lets a user namespace set sysctls and mount sysfs only for a network
// namespace that was made in it. So a container that makes a user namespace and is alone
// in the sandbox makes a network namespace as well, which becomes the sandbox's. Every
// other one joins the sandbox's.
func (s *sharing) addNetwork(spec *specs.Linux) {
	network, user := entry(spec, specs.NetworkNamespace), entry(spec, specs.UserNamespace)
	if network == nil || network.Path != "" {
		return
	}
	if user != nil && user.Path == "" && s.all.containers.Load() == 0 {
		s.network = true
		return
	}
	network.Path = agentproto.GuestNetNS
}

// pin binds the namespaces that the container makes for the sandbox, so that they stay.
// pid is the container's init.
func (s *sharing) pin(pid int) error {
	for _, t := range s.makes {
		path := s.all.path(t)
		if err := bindNamespace(fmt.Sprintf("/proc/%d/ns/%s", pid, procName(t)), path); err != nil {
			return fmt.Errorf("keep the %s namespace for the sandbox: %w", t, err)
		}
		s.all.made[t] = true
	}
	return nil
}

// bindNamespace binds a namespace to a file, which it makes. The namespace outlives
// its processes as long as it is bound.
func bindNamespace(namespace, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := unix.Mount(namespace, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind it to %s: %w", path, err)
	}
	return nil
}

// finish is called when the container is made, or with the error that prevented it.
// After an error the next container makes the namespaces that this one was to make.
func (s *sharing) finish(err error) {
	for _, file := range s.files {
		_ = file.Close()
	}
	s.files = nil
	if !s.decides {
		return
	}
	if err != nil {
		for _, t := range s.makes {
			if s.all.made[t] {
				_ = unix.Unmount(s.all.path(t), unix.MNT_DETACH)
				delete(s.all.made, t)
			}
		}
	}
	s.decided()
}

// decided gives the token back.
func (s *sharing) decided() {
	s.decides = false
	<-s.all.deciding
}
