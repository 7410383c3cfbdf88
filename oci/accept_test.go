package oci

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestAccepts checks that what callers send and a VM can honour is accepted.
func TestAccepts(t *testing.T) {
	mapped := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	for name, change := range map[string]func(*specs.Spec){
		"no version":         func(s *specs.Spec) { s.Version = "" },
		"old version":        func(s *specs.Spec) { s.Version = "1.0.2-dev" },
		"newer version":      func(s *specs.Spec) { s.Version = "1.9.0+x" },
		"before version one": func(s *specs.Spec) { s.Version = "0.6.0" },
		"unconfined":         func(s *specs.Spec) { s.Process.ApparmorProfile = "unconfined" },
		"unknown capability": func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_FUTURE"} },
		"scheduler": func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{
				Policy: specs.SchedDeadline, Runtime: 1, Deadline: 2, Period: 3, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork},
			}
		},
		"nice": func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: -20} },
		"io priority": func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE, Priority: 7}
		},
		"affinity": func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-1, 3,", Final: ""} },
		"user namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings, s.Linux.GIDMappings = mapped, mapped
			s.Linux.Sysctl = map[string]string{"user.max_user_namespaces": "0"}
		},
		"time namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}, "monotonic": {Nanosecs: 1}}
		},
		"no cgroup namespace": func(s *specs.Spec) { s.Linux.Namespaces = defaultNamespaces(false) },
		"no uts namespace":    func(s *specs.Spec) { without(specs.UTSNamespace)(s); s.Hostname = "" },
		"network namespace":   joining(specs.NetworkNamespace, "/run/netns/x"),
		"sysctls": func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{
				"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.1/rp_filter": "1", "kernel.shmmax": "1",
				"fs.mqueue.msg_max": "1", "kernel.domainname": "d", "kernel/msgmax": "1",
			}
		},
		"seccomp off": func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{} },
		"seccomp listener without an action for it": func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/s", ListenerMetadata: "m"}
		},
		"seccomp listener alone": func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{ListenerPath: "/s"} },
		"devices": func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200},
				{Path: "/dev/null", Type: "u", Major: 1, Minor: 3},
				{Path: "/dev/initctl", Type: "p"},
				{Path: "/dev/test1", Type: "c", Major: 10, Minor: 666},
				{Path: "/dev/test2", Type: "b", Major: 8, Minor: 666},
			}
		},
		"personality": func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} },
		"memory policy": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{
				Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes},
			}
		},
		"memory policy with one node said twice": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0-0, 00,"}
		},
		"propagation": func(s *specs.Spec) { s.Linux.RootfsPropagation = "rshared" },
		"slave bind": func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Source: "/", Options: []string{"rbind", "rslave", "rro", "nosymfollow"}}}
		},
		"shared bind": func(s *specs.Spec) {
			s.Linux.RootfsPropagation = "rslave"
			s.Mounts = []specs.Mount{{Destination: "/x", Source: "/", Options: []string{"rbind", "rshared", "size=1"}}}
		},
		"remount":              func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/x", Options: []string{"remount", "ro"}}} },
		"relative destination": func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "x", Type: "tmpfs"}} },
	} {
		t.Run(name, func(t *testing.T) {
			spec := testSpec()
			change(spec)
			if err := validate(spec, testEnvironment()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAcceptsUnsetResources(t *testing.T) {
	spec := testSpec()
	spec.Linux.Resources = &specs.LinuxResources{
		Memory: &specs.LinuxMemory{
			Limit: ptr(int64(0)), Swap: ptr(int64(-1)), Kernel: ptr(int64(-1)), KernelTCP: ptr(int64(0)),
			Swappiness: ptr(uint64(60)), DisableOOMKiller: ptr(false), UseHierarchy: ptr(true),
		},
		CPU:            &specs.LinuxCPU{RealtimeRuntime: ptr(int64(0)), RealtimePeriod: ptr(uint64(0)), Idle: ptr(int64(1))},
		Network:        &specs.LinuxNetwork{ClassID: ptr(uint32(0))},
		BlockIO:        &specs.LinuxBlockIO{Weight: ptr(uint16(500)), LeafWeight: ptr(uint16(0))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1 << 21}, {Pagesize: "64KB"}},
		Rdma:           map[string]specs.LinuxRdma{},
		Unified:        map[string]string{"hugetlb.1GB.max": "0", "memory.low": "x", "pids.max": "max"},
	}
	if err := validate(spec, testEnvironment()); err != nil {
		t.Error(err)
	}
}

func TestUnifiedReachesTheHost(t *testing.T) {
	host, guest := splitResources(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(7))},
		Unified: map[string]string{
			"memory.max": "1g", "memory.high": "5", "pids.max": "max", "cpu.max": "max 50000", "cpuset.cpus": "0-1", "cpuset.mems": "0",
		},
	})
	want := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 30))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(-1))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(-1)), Period: ptr(uint64(50000)), Cpus: "0-1", Mems: "0"},
	}
	if diff := cmp.Diff(want, host); diff != "" {
		t.Errorf("host (-want +got):\n%s", diff)
	}
	want = &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(7))},
		Unified: map[string]string{"memory.max": "1g", "memory.high": "5", "pids.max": "max", "cpu.max": "max 50000"},
	}
	if diff := cmp.Diff(want, guest); diff != "" {
		t.Errorf("guest (-want +got):\n%s", diff)
	}
}

func TestParseMax(t *testing.T) {
	for text, want := range map[string]int64{"max": -1, "0": 0, "12": 12, "1K": 1 << 10, "2m": 2 << 20, "1T": 1 << 40} {
		if got, ok := parseMax(text); !ok || got != want {
			t.Errorf("%q: %d, %t", text, got, ok)
		}
	}
	for _, text := range []string{"", "K", "-1", "1x", "9223372036854775807K", "1 2", "MAX"} {
		if got, ok := parseMax(text); ok {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestSplitOnThisHost(t *testing.T) {
	b, err := Load(writeBundle(t, mustJSON(t, testSpec())))
	if err != nil {
		t.Fatal(err)
	}
	host, guest, err := Split(b, "c1", testPlacement())
	if err != nil {
		t.Fatal(err)
	}
	if host.Rootfs != b.Rootfs || host.Namespaces[specs.NetworkNamespace] != "" || guest.Root.Path != "/run/runch/shared/c1/rootfs" {
		t.Errorf("host %+v, guest's root %+v", host, guest.Root)
	}
}
