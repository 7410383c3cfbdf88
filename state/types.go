package state

import (
	"encoding/json"
	"time"

	"runch/transport"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Version is the version of the records that this package writes. A record of
// a newer version is refused.
const Version = 3

// Container is the record of a container. Its status is not recorded: see Status.
type Container struct {
	// Version is set by Save.
	Version int    `json:"version"`
	ID      string `json:"id"`
	// Sandbox is the id of the sandbox whose VM the container is in; the
	// container's own where it is alone.
	Sandbox    string `json:"sandbox"`
	OCIVersion string `json:"ociVersion"`
	// Bundle and Rootfs are absolute paths on the host.
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Owner is the name of the user who made the container.
	Owner string `json:"owner,omitempty"`
	// Fallback is the program of the fallback runtime that has the container, an absolute
	// path; empty for a container in a VM. With Fallback, only ID, OCIVersion, Bundle,
	// Created, Annotations, Owner and Creator are set besides.
	Fallback string `json:"fallback,omitempty"`
	// Creator is the command that makes the container. Shim is the process that
	// stands for the container; zero until it is there.
	Creator Process `json:"creator"`
	Shim    Process `json:"shim"`
	// Started is set once the user's program was told to run, Paused while
	// the container is frozen.
	Started bool `json:"started,omitempty"`
	Paused  bool `json:"paused,omitempty"`
	// Ready is set once create is done.
	Ready bool `json:"ready,omitempty"`
	// Share is the name of the container's directory in what the sandbox shares
	// with its guest.
	Share string `json:"share,omitempty"`
	// ResolvConf is the file on the host that is /etc/resolv.conf in the container;
	// empty where that is a file of its rootfs.
	ResolvConf string `json:"resolvConf,omitempty"`

	Cgroup Cgroup `json:"cgroup"`
	// Resources are the limits of the host's cgroup, before Overhead (in bytes) is
	// added for the guest and the VMM; nil without limits.
	Resources *specs.LinuxResources `json:"resources,omitempty"`
	Overhead  int64                 `json:"overhead,omitempty"`

	Hooks *specs.Hooks `json:"hooks,omitempty"`
	// StartHooks is how long the hooks that the guest runs at start may take.
	StartHooks time.Duration `json:"startHooks,omitempty"`
}

// Cgroup is the container's cgroup on the host.
type Cgroup struct {
	// Path is linux.cgroupsPath as the spec has it, or what took its place.
	Path string `json:"path,omitempty"`
	// Systemd says that systemd manages it (--systemd-cgroup at create). Later commands
	// do not get that flag.
	Systemd bool `json:"systemd,omitempty"`
	// Paths are the directories that were made, by controller ("" on cgroup v2).
	Paths map[string]string `json:"paths,omitempty"`
}

// Network is a sandbox's network on the host.
type Network struct {
	// NetNS is the path of the namespace, as the spec or the shim has it.
	NetNS string `json:"netns,omitempty"`
	// Taps are the devices that were made in it, one beside each link that the guest
	// has a NIC for.
	Taps []Tap `json:"taps,omitempty"`
	// Removed are the names of the taps of links that `runch network remove` took out of
	// the guest. They stay out until `runch network add`.
	Removed []string `json:"removed,omitempty"`
}

// Tap is the host's end of a NIC.
type Tap struct {
	// Name is the tap's, and the id of the NIC.
	Name string `json:"name"`
	// Link is the last known name of the link that the tap was made for. MAC and MTU (in
	// bytes) are what the NIC was made with. All are empty in a record of version 2.
	Link string `json:"link,omitempty"`
	MAC  string `json:"mac,omitempty"`
	MTU  int    `json:"mtu,omitempty"`
}

// UnmarshalJSON also accepts a name alone, as in records up to version 2.
func (t *Tap) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &t.Name) == nil {
		return nil
	}
	type plain Tap
	return json.Unmarshal(data, (*plain)(t))
}

// Sandbox is the record of a sandbox: a VM and what belongs to it.
type Sandbox struct {
	// Version is set by Save.
	Version int    `json:"version"`
	ID      string `json:"id"`
	// Holder is the process that holds the VM: PID 1 of the pid namespace with the VMM and
	// virtiofsd. All shims of the sandbox are in that namespace or in one below it. Zero
	// until it is there.
	Holder Process `json:"holder"`
	// Owner is the container whose shim is the holder, and with which the sandbox
	// ends; empty where the holder is a process of its own.
	Owner string `json:"owner,omitempty"`
	// Pod says that the sandbox is a pod's: more containers may come.
	Pod bool `json:"pod,omitempty"`
	// Members are the sandbox's containers, by their ids.
	Members map[string]Member `json:"members,omitempty"`
	// Endpoint is how the guest is reached.
	Endpoint transport.Endpoint `json:"endpoint"`
	// VMM is the name of the driver.
	VMM string `json:"vmm"`
	// Boot is what the VM was made with, Now what it was last told to have.
	Boot VMSize `json:"boot"`
	Now  VMSize `json:"now"`
	// Default is the size for members without limits of their own.
	Default VMSize `json:"default"`
	// MaxCPUs and MaxMemoryMiB are what it can grow to; OverheadMiB is the part
	// of its memory that is for the guest's kernel and agent.
	MaxCPUs      int `json:"maxCPUs"`
	MaxMemoryMiB int `json:"maxMemoryMiB"`
	OverheadMiB  int `json:"overheadMiB"`
	// Cgroup is the holder's on the host; Overhead (in bytes) is added to its limit
	// of memory for the guest and the VMM.
	Cgroup   Cgroup `json:"cgroup"`
	Overhead int64  `json:"overhead,omitempty"`
	// Network is the pod's, on the host.
	Network Network `json:"network"`
	// Sysctl are the pod's, kept until a member has set them in the guest.
	Sysctl map[string]string `json:"sysctl,omitempty"`
	// LogDir is where the VM's logs are kept if the VM fails.
	LogDir string `json:"logDir,omitempty"`
	// BootTimeout bounds the guest's boot, and tells later commands how slow the guest may
	// be. It is zero in a record of an older runtime.
	BootTimeout time.Duration `json:"bootTimeout,omitempty"`
}

// Running tells whether the sandbox's VM is there to be used.
func (s *Sandbox) Running() bool { return s.Holder.Alive() && s.Endpoint != (transport.Endpoint{}) }

// Member is what a sandbox knows of one of its containers.
type Member struct {
	// Shim is the process that stands for it, zero until it is there.
	Shim Process `json:"shim"`
	// Resources are its limits; nil where there are none.
	Resources *specs.LinuxResources `json:"resources,omitempty"`
	// Share is the container's share, for when its record cannot be read; empty in a
	// sandbox's record of an older runtime.
	Share string `json:"share,omitempty"`
}

// VMSize is how large a VM is.
type VMSize struct {
	CPUs      int `json:"cpus"`
	MemoryMiB int `json:"memoryMiB"`
}

// The statuses of a container, by the runtime spec and, for paused, by runc.
const (
	StatusCreating = "creating"
	StatusCreated  = "created"
	StatusRunning  = "running"
	StatusPaused   = "paused"
	StatusStopped  = "stopped"
)

// Status derives the container's status from which of its processes live. A
// container whose creation was cut short is stopped: what is left of it can be
// deleted.
func (c *Container) Status() string {
	switch {
	case c.Shim.Alive():
	case c.Shim == (Process{}) && c.Creator.Alive():
		return StatusCreating
	default:
		return StatusStopped
	}
	switch {
	case !c.Ready:
		return StatusCreating
	case c.Paused:
		return StatusPaused
	case c.Started:
		return StatusRunning
	}
	return StatusCreated
}
