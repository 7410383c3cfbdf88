package oci

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func resourcesFrom(t *testing.T, text string) *specs.LinuxResources {
	t.Helper()
	if text == "" {
		return nil
	}
	r, err := DecodeResources(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSplitUpdate checks the host's resources after a change, and the guest's part of it.
func TestSplitUpdate(t *testing.T) {
	for name, tt := range map[string]struct{ before, change, host, guest string }{
		"nothing before": {
			"", `{"memory":{"limit":100},"pids":{"limit":5}}`,
			`{"memory":{"limit":100},"pids":{"limit":5}}`, `{"memory":{"limit":100},"pids":{"limit":5}}`,
		},
		"the rest stays": {
			`{"memory":{"limit":100,"reservation":50},"cpu":{"shares":7}}`, `{"memory":{"limit":200}}`,
			`{"memory":{"limit":200,"reservation":50},"cpu":{"shares":7}}`, `{"memory":{"limit":200}}`,
		},
		"a period completes the quota of before": {
			`{"cpu":{"quota":5000,"period":10000}}`, `{"cpu":{"period":20000}}`,
			`{"cpu":{"quota":5000,"period":20000}}`, `{"cpu":{"period":20000}}`,
		},
		"0 is no quota": {
			`{"cpu":{"quota":5000,"period":10000}}`, `{"cpu":{"quota":0,"period":0}}`,
			`{"cpu":{"quota":5000,"period":10000}}`, `{"cpu":{"quota":0,"period":0}}`,
		},
		"no limit of memory is none of swap": {
			`{"memory":{"limit":100,"swap":150}}`, `{"memory":{"limit":-1}}`,
			`{"memory":{"limit":-1,"swap":0}}`, `{"memory":{"limit":-1,"swap":0}}`,
		},
		"idle processes have no shares": {
			`{"cpu":{"shares":7}}`, `{"cpu":{"idle":1}}`,
			`{"cpu":{"shares":0,"idle":1}}`, `{"cpu":{"shares":0,"idle":1}}`,
		},
		"CPUs and disks are the host's": {
			`{"blockIO":{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}]}}`,
			`{"cpu":{"cpus":"0-1","mems":"0"},"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":2},{"major":8,"minor":1,"rate":3}]}}`,
			`{"cpu":{"cpus":"0-1","mems":"0"},"blockIO":{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":2},{"major":8,"minor":1,"rate":3}]}}`,
			`{"cpu":{}}`,
		},
		"names whatever their case": {
			"", `{"CPU":{"Cpus":"1"},"Memory":{"LIMIT":3}}`,
			`{"cpu":{"cpus":"1"},"memory":{"limit":3}}`, `{"cpu":{},"memory":{"limit":3}}`,
		},
		"rules for devices stay": {
			`{"pids":{"limit":5}}`, `{"devices":[{"allow":true,"access":"rwm"}],"memory":{"limit":100}}`,
			`{"pids":{"limit":5},"memory":{"limit":100}}`, `{"memory":{"limit":100}}`,
		},
		"a file of cgroup v2 is a limit": {
			`{"memory":{"limit":100}}`, `{"unified":{"memory.max":"1K"}}`,
			`{"memory":{"limit":1024}}`, `{"unified":{"memory.max":"1K"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, change := resourcesFrom(t, tt.before), resourcesFrom(t, tt.change)
			host, guest, err := SplitUpdate(before, change)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(resourcesFrom(t, tt.host), host); d != "" {
				t.Errorf("host (-want +got):\n%s", d)
			}
			if d := cmp.Diff(resourcesFrom(t, tt.guest), guest); d != "" {
				t.Errorf("guest (-want +got):\n%s", d)
			}
			if d := cmp.Diff(resourcesFrom(t, tt.change), change); d != "" {
				t.Errorf("the change was changed (-want +got):\n%s", d)
			}
			if d := cmp.Diff(resourcesFrom(t, tt.before), before); d != "" {
				t.Errorf("what was before was changed (-want +got):\n%s", d)
			}
		})
	}
}

func TestSplitUpdateRefuses(t *testing.T) {
	for text, field := range map[string]string{
		`{"memory":{"limit":-2}}`:           "linux.resources.memory.limit",
		`{"memory":{"swap":10}}`:            "linux.resources.memory.swap",
		`{"cpu":{"realtimeRuntime":1}}`:     "linux.resources.cpu.realtimeRuntime",
		`{"cpu":{"cpus":"a"}}`:              "linux.resources.cpu.cpus",
		`{"rdma":{"mlx":{"hcaHandles":1}}}`: "linux.resources.rdma",
		`{"network":{"classID":5}}`:         "linux.resources.network.classID",
		`{"unified":{"io.max":"x"}}`:        `linux.resources.unified["io.max"]`,
	} {
		_, _, err := SplitUpdate(nil, resourcesFrom(t, text))
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v, want it to name %s", text, err, field)
		}
	}
}

func FuzzDecodeResources(f *testing.F) {
	for _, text := range []string{
		`{}`, `null`, `{"memory":null,"cpu":null}`, `{"memory":{"limit":9223372036854775807}}`, `{"unified":{"memory.max":"max"}}`,
		`{"blockIO":{"weightDevice":[{"major":1,"minor":2,"weight":3}]}}`, `{"cpu":{"quota":-1,"period":18446744073709551615}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeResources(strings.NewReader(string(data)))
		if err != nil {
			return
		}
		host, guest, err := SplitUpdate(nil, r)
		if err != nil {
			return
		}
		for _, part := range []*specs.LinuxResources{host, guest} {
			if _, err := json.Marshal(part); err != nil {
				t.Errorf("%v", err)
			}
		}
		if _, _, err := SplitUpdate(host, r); err != nil {
			t.Errorf("the same change again: %v", err)
		}
	})
}
