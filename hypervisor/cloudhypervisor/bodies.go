package cloudhypervisor

import "encoding/json"

// The bodies of the API's requests and answers, as its documentation
// (cloud-hypervisor.yaml) names them; only what is used. The VMM ignores a field that
// it does not know, so a test checks these names against the documented ones.

type vmConfig struct {
	CPUs           cpusConfig     `json:"cpus"`
	Memory         memoryConfig   `json:"memory"`
	Payload        payloadConfig  `json:"payload"`
	Disks          []diskConfig   `json:"disks,omitempty"`
	FS             []fsConfig     `json:"fs,omitempty"`
	Vsock          vsockConfig    `json:"vsock"`
	RNG            rngConfig      `json:"rng"`
	Balloon        balloonConfig  `json:"balloon"`
	Serial         consoleConfig  `json:"serial"`
	Console        consoleConfig  `json:"console"`
	LandlockEnable bool           `json:"landlock_enable,omitempty"`
	LandlockRules  []landlockRule `json:"landlock_rules,omitempty"`
}

type cpusConfig struct {
	Boot   int  `json:"boot_vcpus"`
	Max    int  `json:"max_vcpus"`
	Nested bool `json:"nested"`
}

// memoryConfig has sizes in bytes.
type memoryConfig struct {
	Size          int64  `json:"size"`
	Shared        bool   `json:"shared"`
	HotplugMethod string `json:"hotplug_method,omitempty"`
	HotplugSize   int64  `json:"hotplug_size,omitempty"`
}

type payloadConfig struct {
	Kernel    string `json:"kernel"`
	Initramfs string `json:"initramfs,omitempty"`
	Cmdline   string `json:"cmdline"`
}

type diskConfig struct {
	ID        string `json:"id"`
	Path      string `json:"path"`
	ReadOnly  bool   `json:"readonly"`
	ImageType string `json:"image_type"`
	Serial    string `json:"serial"`
}

type fsConfig struct {
	ID        string `json:"id"`
	Tag       string `json:"tag"`
	Socket    string `json:"socket"`
	NumQueues int    `json:"num_queues"`
	QueueSize int    `json:"queue_size"`
}

type netConfig struct {
	ID        string `json:"id"`
	MAC       string `json:"mac"`
	NumQueues int    `json:"num_queues"`
}

type vsockConfig struct {
	CID    int    `json:"cid"`
	Socket string `json:"socket"`
}

type rngConfig struct {
	Source string `json:"src"`
}

// balloonConfig has its size in bytes.
type balloonConfig struct {
	Size              int64 `json:"size"`
	FreePageReporting bool  `json:"free_page_reporting"`
}

type consoleConfig struct {
	Mode string `json:"mode"`
	File string `json:"file,omitempty"`
}

type landlockRule struct {
	Path   string `json:"path"`
	Access string `json:"access"`
}

type resizeRequest struct {
	VCPUs int   `json:"desired_vcpus,omitempty"`
	RAM   int64 `json:"desired_ram,omitempty"`
}

type removeRequest struct {
	ID string `json:"id"`
}

type snapshotRequest struct {
	Destination string `json:"destination_url"`
}

type restoreRequest struct {
	Source   string       `json:"source_url"`
	NetFDs   []restoreNet `json:"net_fds,omitempty"`
	Prefault bool         `json:"prefault"`
}

type restoreNet struct {
	ID     string `json:"id"`
	NumFDs int    `json:"num_fds"`
}

type pingResponse struct {
	Version string `json:"version"`
}

// infoResponse is the part of vm.info that is used. After the boot, CPUs.Boot is the
// number that the VMM was asked for last.
type infoResponse struct {
	Config struct {
		CPUs   cpusConfig   `json:"cpus"`
		Memory memoryConfig `json:"memory"`
		FS     []fsConfig   `json:"fs"`
	} `json:"config"`
}

// countersResponse has the values by device id and counter name.
type countersResponse map[string]map[string]uint64

// event is what the event monitor reports.
type event struct {
	Source     string          `json:"source"`
	Event      string          `json:"event"`
	Properties json.RawMessage `json:"properties"`
}

func (e event) is(source, name string) bool { return e.Source == source && e.Event == name }

// deviceRemoved are the properties of the event vm/device-removed.
type deviceRemoved struct {
	ID string `json:"id"`
}
