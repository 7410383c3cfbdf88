package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestPodSizeOf(t *testing.T) {
	limits := func(memory, quota int64, period uint64) *specs.LinuxResources {
		r := &specs.LinuxResources{}
		if memory != 0 {
			r.Memory = &specs.LinuxMemory{Limit: &memory}
		}
		if quota != 0 {
			r.CPU = &specs.LinuxCPU{Quota: &quota}
		}
		if period != 0 {
			r.CPU.Period = &period
		}
		return r
	}
	for name, tt := range map[string]struct {
		annotations map[string]string
		want        PodSize
	}{
		"nothing is said": {nil, PodSize{}},
		"CRI-O": {
			map[string]string{
				"pod-linux-resources.crio.io": `{"cpu_period":100000,"cpu_quota":150000,"cpu_shares":512,"memory_limit_in_bytes":268435456}`,
				"pod-linux-overhead.crio.io":  `{"memory_limit_in_bytes":419430400}`,
			},
			PodSize{limits(256<<20, 150_000, 100_000), 400 << 20},
		},
		"CRI-O's older names": {
			map[string]string{
				"io.kubernetes.cri-o.PodLinuxResources": `{"memory_limit_in_bytes":268435456}`,
				"io.kubernetes.cri-o.PodLinuxOverhead":  `{}`,
			},
			PodSize{limits(256<<20, 0, 0), 0},
		},
		"containerd": {
			map[string]string{
				"io.kubernetes.cri.sandbox-cpu-period": "50000", "io.kubernetes.cri.sandbox-cpu-quota": "100000",
				"io.kubernetes.cri.sandbox-cpu-shares": "2048", "io.kubernetes.cri.sandbox-memory": "134217728",
			},
			PodSize{limits(128<<20, 100_000, 50_000), 0},
		},
		"a pod without limits": {
			map[string]string{"io.kubernetes.cri.sandbox-cpu-quota": "0", "io.kubernetes.cri.sandbox-memory": "0"},
			PodSize{limits(0, 0, 0), 0},
		},
	} {
		got, err := PodSizeOf(tt.annotations)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, annotations := range map[string]map[string]string{
		"pod-linux-resources.crio.io":      {"pod-linux-resources.crio.io": "{"},
		"pod-linux-overhead.crio.io":       {"pod-linux-overhead.crio.io": `{"memory_limit_in_bytes":"much"}`},
		"io.kubernetes.cri.sandbox-memory": {"io.kubernetes.cri.sandbox-memory": "1G"},
	} {
		if _, err := PodSizeOf(annotations); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDroppedSandbox checks that only the spec of the pod's own sandbox container, and
// only one that CRI-O has not made, is returned.
func TestDroppedSandbox(t *testing.T) {
	dir := t.TempDir()
	member := filepath.Join(dir, "member", "userdata")
	sandbox := filepath.Join(dir, "pod", "userdata")
	for _, d := range []string{member, sandbox} {
		if err := os.MkdirAll(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if got := DroppedSandbox(member, "pod"); got != nil {
		t.Errorf("without a file: %v", got)
	}
	dropped := map[string]string{
		"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.SandboxID": "pod", "spoofed.crio.io": "true",
	}
	for name, tt := range map[string]struct {
		key, value string
		want       bool
	}{
		"dropped":             {"spoofed.crio.io", "true", true},
		"made":                {"spoofed.crio.io", "false", false},
		"of another pod":      {"io.kubernetes.cri-o.SandboxID", "other", false},
		"no sandbox's at all": {"io.kubernetes.cri-o.ContainerType", "container", false},
	} {
		spec := &specs.Spec{Annotations: map[string]string{}, Linux: &specs.Linux{Sysctl: map[string]string{"net.ipv4.ip_forward": "1"}}}
		for k, v := range dropped {
			spec.Annotations[k] = v
		}
		spec.Annotations[tt.key] = tt.value
		data, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sandbox, ConfigName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		got := DroppedSandbox(member, "pod")
		if (got != nil) != tt.want {
			t.Errorf("%s: %v", name, got)
		}
		if got != nil && got.Linux.Sysctl["net.ipv4.ip_forward"] != "1" {
			t.Errorf("%s: its sysctls are %v", name, got.Linux.Sysctl)
		}
	}
}
