package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"

	"github.com/moby/sys/userns"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/cgroups/systemd"
	"golang.org/x/sys/unix"
)

var (
	// ErrPath says that a cgroupsPath is malformed or is the root cgroup.
	ErrPath = errors.New("invalid cgroupsPath")
	// ErrNoSystemd says that systemd is to manage a cgroup and does not run on
	// this host.
	ErrNoSystemd = errors.New("systemd not running on this host, cannot use systemd cgroups manager")
	// ErrInUse says that the cgroup has processes in it.
	ErrInUse = errors.New("container's cgroup is not empty")
	// ErrNotDelegated says that this user, who is not root on the host, may not make the
	// cgroup or move a process there.
	ErrNotDelegated = errors.New("this user may not make the cgroup: systemd allows it in a session of the user's own (a login, or `loginctl enable-linger USER` as root)")
	// ErrFrozen says that the cgroup is frozen: a process that enters it stops.
	ErrFrozen = errors.New("container's cgroup unexpectedly frozen")
)

// ownParent is the parent of the cgroups of containers whose spec has no
// cgroupsPath. It is removed with the last of them.
const ownParent = "/runch"

// Cgroup is a cgroup of the host, in all hierarchies. It need not exist. Its
// methods must not be called concurrently.
type Cgroup struct {
	manager   cgroups.Manager
	resources *cgroups.Resources
	systemd   bool
	rootless  bool
	ours      bool // directly below ownParent
}

// New describes the cgroup at path, which is linux.cgroupsPath: for cgroupfs a
// path from the root of the hierarchies or, without a leading slash, from the
// cgroup of the calling process, as runc has it; for systemd slice:prefix:name.
// With systemd, annotations that begin with org.systemd.property. set properties
// of its unit. New changes nothing on the host.
func New(path string, systemd bool, limits Limits, annotations map[string]string) (*Cgroup, error) {
	config := &cgroups.Cgroup{Resources: resources(limits), Systemd: systemd}
	if systemd {
		var err error
		if config.SystemdProps, err = properties(annotations); err != nil {
			return nil, err
		}
	}
	return open(path, config, nil)
}

// Open describes the cgroup of an earlier New. paths are those that it had then:
// a relative path leads elsewhere from another cgroup. They may be nil. The Cgroup
// has no limits, and Apply must not be called on it.
func Open(path string, systemd bool, paths map[string]string) (*Cgroup, error) {
	return open(path, &cgroups.Cgroup{Resources: &cgroups.Resources{}, Systemd: systemd}, maps.Clone(paths))
}

func open(cgroupsPath string, config *cgroups.Cgroup, paths map[string]string) (*Cgroup, error) {
	config.Rootless = Rootless()
	if err := setPath(config, cgroupsPath); err != nil {
		return nil, err
	}
	if config.Systemd && !systemd.IsRunningSystemd() {
		return nil, ErrNoSystemd
	}
	if len(paths) == 0 {
		paths = nil
	}
	m, err := manager.NewWithPaths(config, paths)
	if err != nil {
		return nil, fmt.Errorf("find cgroup %s: %w", cgroupsPath, err)
	}
	return &Cgroup{manager: m, resources: config.Resources, systemd: config.Systemd, rootless: config.Rootless, ours: path.Dir(config.Path) == ownParent}, nil
}

// Rootless tells whether this process is not root on the host. Root in a user namespace
// may use only those cgroups of the host that the namespace's owner may use.
func Rootless() bool { return os.Geteuid() != 0 || userns.RunningInUserNS() }

// setPath parses a cgroupsPath into config.
func setPath(config *cgroups.Cgroup, cgroupsPath string) error {
	if strings.ContainsRune(cgroupsPath, 0) {
		return fmt.Errorf("%w %q", ErrPath, cgroupsPath)
	}
	if config.Systemd {
		parts := strings.Split(cgroupsPath, ":")
		if len(parts) != 3 || parts[2] == "" || strings.Contains(parts[1]+parts[2], "/") {
			return fmt.Errorf("%w %q: expected \"slice:prefix:name\" for systemd", ErrPath, cgroupsPath)
		}
		config.Parent, config.ScopePrefix, config.Name = parts[0], parts[1], parts[2]
		return nil
	}
	clean := path.Clean("/" + cgroupsPath)
	if clean == "/" {
		return fmt.Errorf("%w %q: the root cgroup cannot hold a container", ErrPath, cgroupsPath)
	}
	if !path.IsAbs(cgroupsPath) {
		clean = clean[1:]
	}
	config.Path = clean
	return nil
}

// Apply creates the cgroup, sets its limits and moves the process into it. The
// cgroup may exist; the error is ErrInUse if there are processes in it, ErrFrozen if it
// is frozen, and ErrNotDelegated if only root may make it. After an error the
// directories that Apply created are removed, and the process is back in its old cgroup,
// or with systemd killed.
func (c *Cgroup) Apply(pid int) error {
	if c.manager.Exists() {
		pids, err := c.manager.GetAllPids()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list processes of cgroup: %w", err)
		}
		if len(pids) > 0 {
			return fmt.Errorf("%w: %d process(es) found", ErrInUse, len(pids))
		}
	}
	// On cgroup v1 Exists looks into one hierarchy, which need not be the freezer's.
	state, err := c.manager.GetFreezerState()
	switch {
	case err != nil:
		return fmt.Errorf("look whether the cgroup is frozen: %w", err)
	case state == cgroups.Frozen:
		return ErrFrozen
	}
	if c.systemd {
		return c.applySystemd(pid)
	}
	return c.applyFiles(pid)
}

// applySystemd has systemd create the unit with the process in it: systemd
// creates no scope without one.
func (c *Cgroup) applySystemd(pid int) error {
	err := c.manager.Apply(pid)
	if err == nil {
		err = c.manager.Set(c.resources)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("create cgroup: %w", err), c.manager.Destroy())
	}
	return nil
}

// applyFiles creates the cgroup in cgroupfs. It sets the limits before it moves
// the process in, so that they hold from the beginning.
func (c *Cgroup) applyFiles(pid int) error {
	fresh := missingDirs(c.Paths())
	before, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return fmt.Errorf("find cgroup of process %d: %w", pid, err)
	}
	// The delete of another container may remove ownParent before this one's
	// cgroup is in it. That happens once per delete, so a few tries are enough.
	const tries = 10
	for range tries {
		err = c.create(pid)
		if !c.ours || !lostParent(err) {
			break
		}
	}
	if err != nil {
		moveBack(before, pid)
		removeDirs(fresh)
	}
	if c.rootless && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrNotDelegated, err)
	}
	return err
}

// create creates the directories, sets the limits and moves the process in.
func (c *Cgroup) create(pid int) error {
	// Apply returns ErrRootless to a user who may not create cgroups. That is an
	// error only if there are limits to set, which Set finds out.
	err := c.manager.Apply(-1) // -1: no process
	if err == nil || errors.Is(err, cgroups.ErrRootless) {
		err = c.manager.Set(c.resources)
	}
	if err != nil {
		return fmt.Errorf("create cgroup: %w", err)
	}
	if err := c.manager.AddPid("", pid); err != nil && !errors.Is(err, cgroups.ErrRootless) {
		return fmt.Errorf("move process %d to cgroup: %w", pid, err)
	}
	return nil
}

// lostParent reports whether err can come from the removal of the parent while a
// cgroup is created in it: the parent does not exist, is being removed, or has been
// created again and has no cpuset yet that could be copied.
func lostParent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSPC)
}

// Paths are the cgroup's directories: by controller on cgroup v1 (with "" for
// the v2 hierarchy of a hybrid host), under "" alone on cgroup v2. Open takes them.
func (c *Cgroup) Paths() map[string]string { return maps.Clone(c.manager.GetPaths()) }
