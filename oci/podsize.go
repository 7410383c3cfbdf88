package oci

import (
	"encoding/json"
	"path/filepath"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// CRI-O's annotations for the resources of a whole pod, the newer name first.
var (
	crioResources = []string{"pod-linux-resources.crio.io", "io.kubernetes.cri-o.PodLinuxResources"}
	crioOverhead  = []string{"pod-linux-overhead.crio.io", "io.kubernetes.cri-o.PodLinuxOverhead"}
	crioSpoofed   = []string{"spoofed.crio.io", "io.kubernetes.cri-o.Spoofed"}
)

const (
	containerdPeriod = "io.kubernetes.cri.sandbox-cpu-period"
	containerdQuota  = "io.kubernetes.cri.sandbox-cpu-quota"
	containerdMemory = "io.kubernetes.cri.sandbox-memory"
)

// PodSize is what the caller gives a whole pod.
type PodSize struct {
	// Resources are the sums of its containers' limits of memory and CPU, where they
	// have any; nil where the caller says nothing.
	Resources *specs.LinuxResources
	// Overhead is the memory, in bytes, that its cgroup has in addition for the VM.
	Overhead int64
}

// criResources are the fields of the CRI's LinuxContainerResources that matter here, in
// the form in which CRI-O writes them.
type criResources struct {
	CPUPeriod   int64 `json:"cpu_period"`
	CPUQuota    int64 `json:"cpu_quota"`
	MemoryLimit int64 `json:"memory_limit_in_bytes"`
}

// PodSizeOf reads the size of a pod from the annotations of its sandbox's spec, as
// CRI-O and containerd's CRI plugin write them. The error names the annotation.
func PodSizeOf(annotations map[string]string) (PodSize, error) {
	var size PodSize
	resources, err := readCRIO(annotations, crioResources)
	if err != nil {
		return size, err
	}
	overhead, err := readCRIO(annotations, crioOverhead)
	if err != nil {
		return size, err
	}
	if overhead != nil {
		size.Overhead = max(0, overhead.MemoryLimit)
	}
	if resources == nil {
		if resources, err = readContainerd(annotations); err != nil {
			return size, err
		}
	}
	if resources != nil {
		size.Resources = resources.limits()
	}
	return size, nil
}

// readCRIO reads an annotation that has one of these names, nil where there is none.
func readCRIO(annotations map[string]string, names []string) (*criResources, error) {
	for _, name := range names {
		value, ok := annotations[name]
		if !ok {
			continue
		}
		var r criResources
		if err := json.Unmarshal([]byte(value), &r); err != nil {
			return nil, fieldErrorf(key("annotations", name), "%w", err)
		}
		return &r, nil
	}
	return nil, nil
}

// readContainerd reads containerd's annotations, nil where there are none.
func readContainerd(annotations map[string]string) (*criResources, error) {
	var r criResources
	found := false
	for name, field := range map[string]*int64{
		containerdPeriod: &r.CPUPeriod, containerdQuota: &r.CPUQuota, containerdMemory: &r.MemoryLimit,
	} {
		value, ok := annotations[name]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fieldErrorf(key("annotations", name), "%q is not a number", value)
		}
		*field, found = n, true
	}
	if !found {
		return nil, nil
	}
	return &r, nil
}

// limits converts r to a spec's resources. A value that is not greater than 0 is no limit.
func (r *criResources) limits() *specs.LinuxResources {
	limits := &specs.LinuxResources{}
	if r.MemoryLimit > 0 {
		limits.Memory = &specs.LinuxMemory{Limit: &r.MemoryLimit}
	}
	if r.CPUQuota > 0 {
		limits.CPU = &specs.LinuxCPU{Quota: &r.CPUQuota}
		if r.CPUPeriod > 0 {
			period := uint64(r.CPUPeriod)
			limits.CPU.Period = &period
		}
	}
	return limits
}

// DroppedSandbox returns the spec of a pod's sandbox container that CRI-O has not made
// (drop_infra_ctr): CRI-O writes that spec beside those of the pod's containers in any
// case. The result is nil where there is none.
func DroppedSandbox(bundle, pod string) *specs.Spec {
	spec, err := loadSpec(filepath.Join(bundle, "..", "..", pod, "userdata", ConfigName))
	if err != nil || spec.Annotations[crioSandbox] != pod || spec.Annotations[crioType] != typeSandbox {
		return nil
	}
	for _, name := range crioSpoofed {
		if spec.Annotations[name] == "true" {
			return spec
		}
	}
	return nil
}
