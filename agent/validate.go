package agent

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"runch/agentproto"
)

// Bounds of what the agent accepts from outside the guest.
const (
	maxID         = 1024    // bytes of a container's or a process's id
	maxSpec       = 3 << 20 // bytes of a spec; a message of ttrpc holds 4 MiB
	maxContainers = 1024    // containers at one time, ended ones included
	maxExecs      = 4096    // processes of one container at one time, ended ones included
	maxTerminal   = 1 << 16 // rows or columns, exclusive: struct winsize has 16 bits
	maxSignal     = 64      // SIGRTMAX
)

// checkID refuses ids that libcontainer would refuse, or that could leave a directory.
func checkID(field, id string) error {
	if id == "" {
		return invalidf("%s: empty", field)
	}
	if len(id) > maxID {
		return invalidf("%s: longer than %d bytes", field, maxID)
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_+-.", c) >= 0:
		default:
			return libcontainer.ErrInvalidID
		}
	}
	if id == "." || id == ".." {
		return libcontainer.ErrInvalidID
	}
	return nil
}

// decodeSpec reads a guest spec and checks what libcontainer takes for granted.
func decodeSpec(data []byte) (*specs.Spec, error) {
	if len(data) > maxSpec {
		return nil, invalidf("spec: longer than %d bytes", maxSpec)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, invalidf("spec: %v", err)
	}
	if spec.Root == nil || !filepath.IsAbs(spec.Root.Path) {
		return nil, invalidf("spec: root.path: must be an absolute path")
	}
	if spec.Linux == nil {
		return nil, invalidf("spec: linux: missing")
	}
	if cg := spec.Linux.CgroupsPath; cg == "" || path.Clean("/"+cg) == "/" {
		return nil, invalidf("spec: linux.cgroupsPath: missing")
	}
	if err := checkProcess("spec: process", spec.Process); err != nil {
		return nil, err
	}
	return spec, nil
}

// decodeProcess reads an OCI process.
func decodeProcess(data []byte) (*specs.Process, error) {
	if len(data) > maxSpec {
		return nil, invalidf("process: longer than %d bytes", maxSpec)
	}
	p := new(specs.Process)
	if err := json.Unmarshal(data, p); err != nil {
		return nil, invalidf("process: %v", err)
	}
	return p, checkProcess("process", p)
}

func checkProcess(field string, p *specs.Process) error {
	switch {
	case p == nil:
		return invalidf("%s: missing", field)
	case len(p.Args) == 0:
		return invalidf("%s.args: empty", field)
	case !filepath.IsAbs(p.Cwd):
		return invalidf("%s.cwd: must be an absolute path", field)
	}
	return nil
}

// checkStdio refuses an id for two streams, and stderr with a terminal.
func checkStdio(s *agentproto.Stdio, terminal bool) error {
	if terminal && s.GetStderr() != 0 {
		return invalidf("stdio.stderr: a terminal has none")
	}
	seen := make(map[uint64]bool, 3)
	for _, id := range []uint64{s.GetStdin(), s.GetStdout(), s.GetStderr()} {
		if id != 0 && seen[id] {
			return invalidf("stdio: stream %d is named twice", id)
		}
		seen[id] = true
	}
	return nil
}

func checkSize(s *agentproto.TerminalSize) error {
	if s.GetHeight() >= maxTerminal || s.GetWidth() >= maxTerminal {
		return invalidf("terminal size: %dx%d is too large", s.GetWidth(), s.GetHeight())
	}
	return nil
}

// checkShare refuses a share that is not one path element below the shared directory.
func checkShare(name string) error {
	switch {
	case len(name) > unix.NAME_MAX:
		return invalidf("share: longer than %d bytes", unix.NAME_MAX)
	case name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return invalidf("share: %q is not one path element", name)
	}
	return nil
}

// checkShared refuses namespaces that cannot be shared, that are listed twice, or that
// the spec does not ask for without a path.
func checkShared(req *agentproto.CreateContainerRequest, spec *specs.Linux) error {
	seen := make(map[specs.LinuxNamespaceType]bool)
	for i, ns := range req.GetSharedNamespaces() {
		t, id := specs.LinuxNamespaceType(ns.GetType()), ns.GetContainerId()
		field := fmt.Sprintf("shared_namespaces[%d]", i)
		if id != "" {
			if err := checkID(field+".container_id", id); err != nil {
				return err
			}
		}
		e := entry(spec, t)
		switch {
		case procName(t) == "":
			return invalidf("%s.type: containers cannot share namespaces of type %q", field, t)
		case seen[t]:
			return invalidf("%s.type: %s is there twice", field, t)
		case id == req.GetContainerId():
			return invalidf("%s.container_id: a container cannot join itself", field)
		case t == specs.PIDNamespace && id == "":
			return invalidf("%s.container_id: missing, a pid namespace ends with its init", field)
		case e == nil || e.Path != "":
			return invalidf("%s.type: the spec has no %s namespace without a path", field, t)
		}
		seen[t] = true
	}
	return nil
}
