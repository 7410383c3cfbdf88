package oci

import (
	"errors"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// without takes a namespace out of a spec.
func without(t specs.LinuxNamespaceType) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
	}
}

// joining gives a namespace of a spec a path.
func joining(t specs.LinuxNamespaceType, path string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		without(t)(s)
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
}

// all combines several changes into one.
func all(changes ...func(*specs.Spec)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		for _, change := range changes {
			change(s)
		}
	}
}

func TestRefusesNamespaces(t *testing.T) {
	env := testEnvironment()
	env.checkNetNS = func(string) error { return errors.New("no such namespace") }
	unmasked := func(s *specs.Spec) { s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil }
	unnamed := func(s *specs.Spec) { s.Hostname = "" }
	add := func(t specs.LinuxNamespaceType) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t})
		}
	}
	mapped := func(s *specs.Spec) {
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}
		s.Linux.GIDMappings = s.Linux.UIDMappings
	}
	runRefusals(t, env, []refusal{
		{"unknown", add("disk"), `linux.namespaces[6].type: namespace "disk" does not exist`},
		{"twice", add(specs.PIDNamespace), `linux.namespaces[6].type: malformed spec file: duplicated ns "pid"`},
		{"network path", joining(specs.NetworkNamespace, "/n"), `linux.namespaces[5].path: no such namespace`},
		{"path", joining(specs.IPCNamespace, "/i\x00"), `linux.namespaces[5].path: contains a null byte`},
		{"mount path", joining(specs.MountNamespace, "/m"), `linux.namespaces[5].path: cannot join the mount namespace /m: it is not in the container's VM`},
		{"cgroup path", joining(specs.CgroupNamespace, "/c"), `linux.namespaces[5].path: cannot join the cgroup namespace /c: it is not in the container's VM`},
		{"time path", joining(specs.TimeNamespace, "/t"), `linux.namespaces[6].path: cannot join the time namespace /t: it is not in the container's VM`},
		{"no network", without(specs.NetworkNamespace), `linux.namespaces: no network namespace: the host's cannot be shared with a VM`},
		{"no pid", without(specs.PIDNamespace), `linux.namespaces: no pid namespace: the host's cannot be shared with a VM`},
		{"no ipc", without(specs.IPCNamespace), `linux.namespaces: no ipc namespace: the host's cannot be shared with a VM`},
		{"no mount, masked", without(specs.MountNamespace), `linux.namespaces: unable to restrict sys entries without a private MNT namespace`},
		{"no mount", all(unmasked, without(specs.MountNamespace)), `linux.namespaces: no mount namespace: the host's cannot be shared with a VM`},
		{"no uts, hostname", without(specs.UTSNamespace), `hostname: unable to set hostname without a private UTS namespace`},
		{
			"no uts, domainname", all(unnamed, without(specs.UTSNamespace), func(s *specs.Spec) { s.Domainname = "d" }),
			`domainname: unable to set domainname without a private UTS namespace`,
		},
		{"mappings", mapped, `linux.uidMappings: user namespace mappings specified, but user namespace isn't enabled in the config`},
		{"no mappings", add(specs.UserNamespace), `linux.uidMappings: user namespaces enabled, but no namespace path to join nor mappings to apply specified`},
		{
			"no uid mappings", all(mapped, add(specs.UserNamespace), func(s *specs.Spec) { s.Linux.UIDMappings = nil }),
			`linux.uidMappings: user namespaces enabled, but no uid mappings found`,
		},
		{
			"no gid mappings", all(mapped, add(specs.UserNamespace), func(s *specs.Spec) { s.Linux.GIDMappings = nil }),
			`linux.gidMappings: user namespaces enabled, but no gid mappings found`,
		},
		{
			"time offsets", func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}} },
			`linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config`,
		},
		{
			"time clock", all(add(specs.TimeNamespace), func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}} }),
			`linux.timeOffsets["realtime"]: the kernel has offsets for monotonic and boottime only`,
		},
	})
}

func TestRefusesLinux(t *testing.T) {
	device := func(d specs.LinuxDevice) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}, d}
		}
	}
	sysctl := func(name string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{name: "1"} }
	}
	seccomp := func(c specs.LinuxSeccomp) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Seccomp = &c }
	}
	call := func(c specs.LinuxSyscall) func(*specs.Spec) {
		return seccomp(specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Action: specs.ActErrno}, c}})
	}
	policy := func(p specs.LinuxMemoryPolicy) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.MemoryPolicy = &p }
	}
	runRefusals(t, testEnvironment(), []refusal{
		{"intelRdt", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }, `linux.intelRdt: the host's caches and memory bandwidth cannot be parted from within a VM`},
		{
			"netDevices", func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth1": {}} },
			`linux.netDevices: a network device of the host cannot be moved into a VM`,
		},
		{"mountLabel", func(s *specs.Spec) { s.Linux.MountLabel = "a:b:c:d" }, `linux.mountLabel: selinux label is specified in config, but selinux is disabled or not supported`},
		{"cgroupsPath", func(s *specs.Spec) { s.Linux.CgroupsPath = "/\x00" }, `linux.cgroupsPath: contains a null byte`},
		{"propagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "far" }, `linux.rootfsPropagation: rootfsPropagation=far is not supported`},
		{"disk", device(specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8}), `linux.devices[1]: a device of the host (/dev/sda, b 8:0) cannot be given to a VM`},
		{"kvm", device(specs.LinuxDevice{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232}), `linux.devices[1]: a device of the host (/dev/kvm, c 10:232) cannot be given to a VM`},
		{"memory device", device(specs.LinuxDevice{Path: "/dev/mem", Type: "c", Major: 1, Minor: 1}), `linux.devices[1]: a device of the host (/dev/mem, c 1:1) cannot be given to a VM`},
		{"device number", device(specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 1<<32 + 1, Minor: 3}), `linux.devices[1]: a device of the host (/dev/x, c 4294967297:3) cannot be given to a VM`},
		{"device type", device(specs.LinuxDevice{Path: "/dev/x", Type: "x"}), `linux.devices[1].type: invalid device type "x"`},
		{"device path", device(specs.LinuxDevice{Type: "c", Major: 1, Minor: 3}), `linux.devices[1].path: must not be empty`},
		{"sysctl", sysctl("vm.swappiness"), `linux.sysctl["vm.swappiness"]: sysctl "vm.swappiness" is not in a separate kernel namespace`},
		{"sysctl slashes", sysctl("vm/swappiness"), `linux.sysctl["vm/swappiness"]: sysctl "vm.swappiness" is not in a separate kernel namespace`},
		{"sysctl user", sysctl("user.max_user_namespaces"), `linux.sysctl["user.max_user_namespaces"]: setting ucounts without a user namespace not allowed: user.max_user_namespaces`},
		{"sysctl hostname", sysctl("kernel.hostname"), `linux.sysctl["kernel.hostname"]: sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field`},
		{"sysctl path", sysctl("net/../kernel/x"), `linux.sysctl["net/../kernel/x"]: sysctl "net/../kernel/x" is not a name`},
		{"seccomp default", seccomp(specs.LinuxSeccomp{DefaultAction: "NO"}), `linux.seccomp.defaultAction: string NO is not a valid action for seccomp`},
		{
			"seccomp default notify", seccomp(specs.LinuxSeccomp{DefaultAction: specs.ActNotify, ListenerPath: "/s"}),
			`linux.seccomp.defaultAction: SCMP_ACT_NOTIFY needs a listener, which the host cannot have for system calls in a VM`,
		},
		{"seccomp notify", call(specs.LinuxSyscall{Action: specs.ActNotify}), `linux.seccomp.syscalls[1].action: SCMP_ACT_NOTIFY needs a listener, which the host cannot have for system calls in a VM`},
		{"seccomp action", call(specs.LinuxSyscall{Action: "NO"}), `linux.seccomp.syscalls[1].action: string NO is not a valid action for seccomp`},
		{"seccomp flag", seccomp(specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"F"}}), `linux.seccomp.flags[0]: seccomp flag "F" is not known to this runtime`},
		{"seccomp arch", seccomp(specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"Z80"}}), `linux.seccomp.architectures[0]: string Z80 is not a valid arch for seccomp`},
		{
			"seccomp operator", call(specs.LinuxSyscall{Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "IS"}}}),
			`linux.seccomp.syscalls[1].args[0].op: string IS is not a valid operator for seccomp`,
		},
		{
			"seccomp index", call(specs.LinuxSyscall{Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}),
			`linux.seccomp.syscalls[1].args[0].index: 6 is more than 5`,
		},
		{"policy mode", policy(specs.LinuxMemoryPolicy{Mode: "NEAR"}), `linux.memoryPolicy.mode: invalid memory policy mode "NEAR"`},
		{"policy nodes", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "a"}), `linux.memoryPolicy.nodes: invalid memory policy nodes "a": "a" is not a number`},
		{"policy no nodes", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolBind}), `linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0`},
		{"policy some nodes", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolLocal, Nodes: "0"}), `linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got 1`},
		{"policy many nodes", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolDefault, Nodes: "0-6,5,7"}), `linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got 8`},
		{"policy node range", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "1-0"}), `linux.memoryPolicy.nodes: invalid memory policy nodes "1-0": invalid range: 1-0`},
		{"policy node 10", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolPreferred, Nodes: "00010"}), `linux.memoryPolicy.nodes: invalid memory policy nodes "00010": the guest has node 0 alone`},
		{"policy other node", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0-1"}), `linux.memoryPolicy.nodes: invalid memory policy nodes "0-1": the guest has node 0 alone`},
		{
			"policy flag", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolDefault, Flags: []specs.MemoryPolicyFlagType{"F"}}),
			`linux.memoryPolicy.flags[0]: invalid memory policy flag "F"`,
		},
		{
			"personality", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} },
			`linux.personality.domain: invalid personality domain BSD`,
		},
		{
			"personality flags", func(s *specs.Spec) {
				s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"F"}}
			},
			`linux.personality.flags: unsupported personality flags: [F]`,
		},
	})
}

func TestRefusesResources(t *testing.T) {
	res := func(r specs.LinuxResources) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Resources = &r }
	}
	memory := func(m specs.LinuxMemory) func(*specs.Spec) { return res(specs.LinuxResources{Memory: &m}) }
	cpu := func(c specs.LinuxCPU) func(*specs.Spec) { return res(specs.LinuxResources{CPU: &c}) }
	blockIO := func(b specs.LinuxBlockIO) func(*specs.Spec) { return res(specs.LinuxResources{BlockIO: &b}) }
	rule := func(r specs.LinuxDeviceCgroup) func(*specs.Spec) {
		return res(specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{r}})
	}
	unified := func(name, value string) func(*specs.Spec) {
		return res(specs.LinuxResources{Unified: map[string]string{name: value}})
	}
	runRefusals(t, testEnvironment(), []refusal{
		{"rule type", rule(specs.LinuxDeviceCgroup{Type: "x", Access: "r"}), `linux.resources.devices[0].type: invalid cgroup device type "x"`},
		{"rule access", rule(specs.LinuxDeviceCgroup{Type: "c"}), `linux.resources.devices[0].access: device access at 0 field cannot be empty`},
		{"rule letters", rule(specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "rx"}), `linux.resources.devices[0].access: invalid device permissions "rx"`},
		{"memory", memory(specs.LinuxMemory{Limit: ptr(int64(-2))}), `linux.resources.memory.limit: invalid memory value: -2`},
		{"swap value", memory(specs.LinuxMemory{Swap: ptr(int64(-2))}), `linux.resources.memory.swap: invalid memory value: -2`},
		{"swap alone", memory(specs.LinuxMemory{Swap: ptr(int64(1))}), `linux.resources.memory.swap: unable to set swap limit without memory limit`},
		{"swap", memory(specs.LinuxMemory{Limit: ptr(int64(2)), Swap: ptr(int64(1))}), `linux.resources.memory.swap: memory+swap limit should be >= memory limit`},
		{"kernel memory", memory(specs.LinuxMemory{Kernel: ptr(int64(1))}), `linux.resources.memory.kernel: the guest's kernel has no limit for kernel memory alone`},
		{"kernel TCP", memory(specs.LinuxMemory{KernelTCP: ptr(int64(1))}), `linux.resources.memory.kernelTCP: the guest's kernel has no limit for TCP memory alone`},
		{"oom killer", memory(specs.LinuxMemory{DisableOOMKiller: ptr(true)}), `linux.resources.memory.disableOOMKiller: the guest's kernel cannot disable its OOM killer`},
		{"swappiness", memory(specs.LinuxMemory{Swappiness: ptr(uint64(101))}), `linux.resources.memory.swappiness: 101 is not between 0 and 100`},
		{"cpus", cpu(specs.LinuxCPU{Cpus: "0-"}), `linux.resources.cpu.cpus: "" is not a number`},
		{"mems", cpu(specs.LinuxCPU{Mems: "one"}), `linux.resources.cpu.mems: "one" is not a number`},
		{"real-time", cpu(specs.LinuxCPU{RealtimeRuntime: ptr(int64(1))}), `linux.resources.cpu.realtimeRuntime: the guest's kernel does not schedule real-time processes by cgroup`},
		{"real-time period", cpu(specs.LinuxCPU{RealtimePeriod: ptr(uint64(1))}), `linux.resources.cpu.realtimePeriod: the guest's kernel does not schedule real-time processes by cgroup`},
		{"period", cpu(specs.LinuxCPU{Period: ptr(uint64(1_000_001))}), `linux.resources.cpu.period: 1000001 is more than 1000000`},
		{"idle", cpu(specs.LinuxCPU{Idle: ptr(int64(2))}), `linux.resources.cpu.idle: 2 is neither 0 nor 1`},
		{"leaf weight", blockIO(specs.LinuxBlockIO{LeafWeight: ptr(uint16(10))}), `linux.resources.blockIO.leafWeight: the container's cgroup has none below it`},
		{
			"device leaf weight", blockIO(specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{{LeafWeight: ptr(uint16(10))}}}),
			`linux.resources.blockIO.weightDevice[0].leafWeight: the container's cgroup has none below it`,
		},
		{
			"huge pages", res(specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1}, {Pagesize: "1GB", Limit: 1}}}),
			`linux.resources.hugepageLimits[1]: the guest has no huge pages of "1GB", but of 2MB`,
		},
		{"class", res(specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(7))}}), `linux.resources.network.classID: packets of a VM cannot be classified by cgroup`},
		{
			"priorities", res(specs.LinuxResources{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "eth0"}}}}),
			`linux.resources.network.priorities: packets of a VM cannot be classified by cgroup`,
		},
		{"rdma", res(specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"mlx": {}}}), `linux.resources.rdma: the guest has no RDMA devices`},
		{"unified name", unified("../x", "1"), `linux.resources.unified["../x"]: unified resource "../x" must be a file name (no slashes)`},
		{"unified io", unified("io.max", "8:0 rbps=1"), `linux.resources.unified["io.max"]: the disks are the host's: give it as linux.resources.blockIO`},
		{"unified rdma", unified("rdma.max", "x"), `linux.resources.unified["rdma.max"]: the guest has no RDMA devices`},
		{"unified memory", unified("memory.max", "much"), `linux.resources.unified["memory.max"]: "much" is neither a number nor max`},
		{"unified cpu", unified("cpu.max", "x 100000"), `linux.resources.unified["cpu.max"]: "x" is neither a number nor max`},
		{"unified cpus", unified("cpuset.cpus", "x"), `linux.resources.unified["cpuset.cpus"]: "x" is not a number`},
	})
}
