package agent

import (
	"sync"

	"runch/agentproto"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// stateDir is libcontainer's: one directory for each container.
const stateDir = "/run/runch/state"

type phase int

const (
	created phase = iota
	running
	stopped
)

// container is one container. Its mutex guards the phase and the maps, and is
// never held while something is waited for.
type container struct {
	id string
	// share is its directory below the shared one, empty if it has none.
	share  string
	memory []*agentproto.SharedMemory
	config *configs.Config
	cgroup cgroups.Manager
	// gone is closed when everything of an ended container is removed.
	gone       chan struct{}
	init       *process
	lc         *libcontainer.Container
	privatePID bool

	// freezing serialises the freezer, and is held for reading while a process is
	// started; updating serialises what changes the resources.
	freezing sync.RWMutex
	updating sync.Mutex
	// resources are the spec's, with the changes since.
	resources *specs.LinuxResources

	mu     sync.Mutex
	phase  phase
	paused bool
	// resumed is closed when the container is no longer paused; nil if it is not.
	resumed chan struct{}
	oom     bool
	execs   map[string]*process
	handles []*libcontainer.Container
}

// newContainer turns the guest's spec into libcontainer's container. Only its
// state directory exists then.
func (a *Agent) newContainer(req *agentproto.CreateContainerRequest, spec *specs.Spec) (*container, error) {
	// libcontainer starts a child to read a joined user namespace's mappings.
	a.reaper.begin()
	defer a.reaper.end(0)
	id := req.GetContainerId()
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:   id,
		NoPivotRoot:  req.GetNoPivot(),
		NoNewKeyring: req.GetNoNewKeyring(),
		Spec:         spec,
	})
	if err != nil {
		return nil, err
	}
	// libcontainer labels the agent's working directory as the bundle; of two labels the last counts.
	config.Labels = append(config.Labels, "bundle="+req.GetBundle())
	lc, err := libcontainer.Create(stateDir, id, config)
	if err != nil {
		return nil, err
	}
	cg, err := manager.New(config.Cgroups)
	if err != nil {
		_ = lc.Destroy()
		return nil, err
	}
	c := &container{
		id:         id,
		share:      req.GetShare(),
		memory:     req.GetSharedMemory(),
		config:     config,
		cgroup:     cg,
		lc:         lc,
		resources:  spec.Linux.Resources,
		privatePID: config.Namespaces.IsPrivate(configs.NEWPID),
		gone:       make(chan struct{}),
		execs:      make(map[string]*process),
	}
	if owner := config.Cgroups.OwnerUID; owner != nil {
		c.whenNamespaced(func(int) error { return delegate(cg.Path(""), *owner) })
	}
	return c, nil
}

// whenNamespaced has libcontainer call f, with the pid of the container's init, when
// it has made the namespaces and in them only the spec's mounts.
func (c *container) whenNamespaced(f func(pid int) error) {
	if c.config.Hooks == nil {
		c.config.Hooks = configs.Hooks{}
	}
	c.config.Hooks[configs.CreateRuntime] = append(c.config.Hooks[configs.CreateRuntime],
		configs.NewFunctionHook(func(s *specs.State) error { return f(s.Pid) }))
}

// rootIDs are the guest's ids of the container's root user.
func (c *container) rootIDs() (uid, gid int, err error) {
	if uid, err = c.config.HostRootUID(); err != nil {
		return 0, 0, err
	}
	gid, err = c.config.HostRootGID()
	return uid, gid, err
}

// handle gives a libcontainer object of this container to start one process
// with: each starts one at a time, and one that hangs (in a frozen cgroup, for
// example) must not hold up the others.
func (c *container) handle() (*libcontainer.Container, error) {
	c.mu.Lock()
	if n := len(c.handles); n > 0 {
		h := c.handles[n-1]
		c.handles = c.handles[:n-1]
		c.mu.Unlock()
		return h, nil
	}
	c.mu.Unlock()
	return libcontainer.Load(stateDir, c.id)
}

func (c *container) putHandle(h *libcontainer.Container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handles = append(c.handles, h)
}

// state gives the phase.
func (c *container) state() phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase
}

// start moves a created container to running; it is undone by unstart.
func (c *container) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case created:
		c.phase = running
		return nil
	case running:
		return errStartRunning
	default:
		return errStartStopped
	}
}

func (c *container) unstart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == running {
		c.phase = created
	}
}

// ended notes the end of the init. It asks whether the kernel killed for lack of
// memory, while the cgroup is still there.
func (c *container) ended() (oom bool) {
	kills, err := c.cgroup.OOMKillCount()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = stopped
	c.setPaused(false)
	c.oom = c.oom || (err == nil && kills > 0)
	return c.oom
}
