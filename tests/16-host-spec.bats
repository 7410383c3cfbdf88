#!/usr/bin/env bats
# The fields of a config.json that the host carries out: the cgroup of the VM and the hooks. And those that are refused
# because neither the host nor the guest can do it. docs/oci.md has the list.

load helpers

setup_file() {
	share
	bundle
	hooks
	# pids.limit is not small: an exec may come while the last hook runs, and the threads of the exec's init count.
	config '.annotations = {"org.example.key": "a value"}
		| .process.oomScoreAdj = 321
		| .linux.resources = {
			devices: [{allow: false, access: "rwm"}],
			memory: {limit: 67108864, reservation: 33554432},
			cpu: {shares: 1024, quota: 90000, period: 100000, cpus: "0", mems: "0"},
			pids: {limit: 100},
			network: {classID: 0}
		}'
	local disk
	disk=$(disk)
	if [ -n "$disk" ]; then
		config '($disk | split(":") | {major: (.[0] | tonumber), minor: (.[1] | tonumber)}) as $d
			| .linux.resources.blockIO = {throttleReadBpsDevice: [$d + {rate: 1073741824}], throttleWriteBpsDevice: [$d + {rate: 1073741825}],
				throttleReadIOPSDevice: [$d + {rate: 1000001}], throttleWriteIOPSDevice: [$d + {rate: 1000002}]}' --arg disk "$disk"
	fi
	args sleep 10000
	launch
	shared
}

# disk: prints major:minor of a disk of the host, if it has one.
disk() {
	cat /sys/block/[vsx]d*/dev /sys/block/nvme*/dev 2>/dev/null | head -n 1
}

# hooks: adds two hooks of each kind, which record in $B/hooks their order and what each gets.
hooks() {
	mkdir -p "$B/hooks"
	cat >"$B/hook" <<-'EOT'
		#!/bin/sh
		# hook DIR NAME
		echo "$2" >>"$1/order"
		cat >"$1/$2.json"
		pwd >"$1/$2.cwd"
		env | grep -v -E '^(_|PWD|OLDPWD|SHLVL)=' | sort >"$1/$2.env"
		for ns in mnt net pid uts ipc; do readlink "/proc/self/ns/$ns"; done >"$1/$2.ns"
		cat "/proc/$(sed 's/.*"pid":\([0-9]*\).*/\1/' "$1/$2.json")/cgroup" >"$1/$2.cgroup" 2>/dev/null
		exit 0
	EOT
	chmod +x "$B/hook"
	config --arg hook "$B/hook" --arg dir "$B/hooks" '
		def pair($name): [0, 1] | map({path: $hook, args: ["hook", $dir, "\($name).\(.)"], env: ["KEY=\($name)"], timeout: 20});
		.hooks = ([("prestart", "createRuntime", "createContainer", "poststart", "poststop") as $n | {($n): pair($n)}] | add)
		| .hooks.startContainer = [{
			path: "/bin/sh", env: ["PATH=/bin", "KEY=startContainer"],
			args: ["sh", "-c", "cat >/hook.json; echo $KEY >/hook.env; uname -r >/hook.kernel; cat /proc/1/comm >/hook.comm"]
		}]'
}

teardown_file() {
	unshare_all
}

setup() {
	begin
}

teardown() {
	finish
}

# family PID: prints the pids of the process and of all its descendants.
family() {
	local child
	echo "$1"
	for child in $(ps -o pid= --ppid "$1"); do
		family "$child"
	done
}

# --- the cgroup ---

# bats test_tags=lab
@test "linux.cgroupsPath: shim, VMM, virtiofsd and an exec's shim are in it, and nobody else" {
	needs_vm
	background sleeper "$ID" sleep 1000
	local controller
	ps -o args= -p "$(family "$PID" | paste -sd,)" >"$T/programs"
	grep -q "^[^ ]*${VMM_KIND:0:4}" "$T/programs"
	grep -q virtiofsd "$T/programs"
	for controller in memory cpu cpuset; do
		echo "$controller"
		[[ $(host_cgroup "$controller") == */runch-test/$ID ]]
		same "$(sort "$(host_cgroup "$controller")/cgroup.procs")" "$({ family "$PID" && echo "$EXEC"; } | sort)"
	done
	kill -KILL "$EXEC"
}

@test "linux.cgroupsPath: the shim is in it before it has done anything" {
	diff "$B/hooks/prestart.0.cgroup" "/proc/$PID/cgroup"
}

# bats test_tags=lab
@test "linux.resources.memory: the host's limits are the container's and the overhead of a VM" {
	needs_vm
	local overhead
	overhead=$(runch env | awk '$1 ~ /^(vmm_)?overhead$/ {sum += $2} END {print sum * 1024 * 1024}')
	[ "$overhead" -gt 0 ]
	same "$(host_memory)" $(((64 << 20) + overhead))
	same "$(host_limit memory memory.soft_limit_in_bytes memory.low)" $(((32 << 20) + overhead))
}

# bats test_tags=lab
@test "linux.resources.cpu: the host holds the VM to the container's CPUs and quota" {
	local pid
	same "$(host_limit cpuset cpuset.cpus cpuset.cpus)" 0
	same "$(host_limit cpuset cpuset.mems cpuset.mems)" 0
	for pid in $(family "$PID"); do
		same "$(sed -n 's/^Cpus_allowed_list:\t//p' "/proc/$pid/status")" 0
	done
	if [ -e "$(host_cgroup cpu)/cpu.max" ]; then
		same "$(cat "$(host_cgroup cpu)/cpu.max")" "90000 100000"
		same "$(cat "$(host_cgroup cpu)/cpu.weight")" 100
	else
		same "$(cat "$(host_cgroup cpu)"/cpu.cfs_{quota,period}_us "$(host_cgroup cpu)/cpu.shares")" $'90000\n100000\n1024'
	fi
}

# bats test_tags=lab
@test "linux.resources.blockIO: the limits for disks are the host's" {
	local disk dir
	disk=$(disk)
	[ -n "$disk" ] || skip "this host has no disk"
	dir=$(host_cgroup blkio)
	if [ -e "$dir/io.max" ]; then
		same "$(cat "$dir/io.max")" "$disk rbps=1073741824 wbps=1073741825 riops=1000001 wiops=1000002"
	else
		same "$(cat "$dir/blkio.throttle.read_bps_device")" "$disk 1073741824"
		same "$(cat "$dir/blkio.throttle.write_bps_device")" "$disk 1073741825"
		same "$(cat "$dir/blkio.throttle.read_iops_device")" "$disk 1000001"
		same "$(cat "$dir/blkio.throttle.write_iops_device")" "$disk 1000002"
	fi
}

@test "linux.resources.pids: the threads of the VMM are none of the container's" {
	needs_vm
	same "$(host_limit pids pids.max pids.max)" max
}

@test "process.oomScoreAdj: of all processes of the VM" {
	local pid
	for pid in $(family "$PID"); do
		same "$(cat "/proc/$pid/oom_score_adj")" 321
	done
}

# bats test_tags=contract:28
@test "CPUs, oom_score_adj and ignored signals of the caller are neither the VM's nor the guest's" {
	needs_vm
	own
	config '.process.oomScoreAdj = null'
	args sleep 1000
	(
		trap '' HUP PIPE USR1
		taskset --cpu-list --pid 0 $BASHPID >/dev/null
		echo 500 >/proc/$BASHPID/oom_score_adj
		launch
		execute grep SigIgn /proc/self/status >"$T/exec"
	)
	PID=$(<"$B/pid")
	local pid
	for pid in $(family "$PID"); do
		same "$(field Cpus_allowed_list "$pid")" "$(field Cpus_allowed_list $$)"
		same "$(cat "/proc/$pid/oom_score_adj")" 0
		# A VMM may ignore signals itself, but not SIGUSR1.
		same $((0x$(field SigIgn "$pid") >> (10 - 1) & 1)) 0
	done
	same "$(cat "$T/exec")" $'SigIgn:\t0000000000000000'
	same "$(execute grep SigIgn /proc/1/status)" $'SigIgn:\t0000000000000000'
	runch delete --force "$ID"
}

# field NAME PID: prints this field of /proc/PID/status.
field() {
	sed -n "s/^$1:\t//p" "/proc/$2/status"
}

@test "process.scheduler: a deadline is the guest's, the VMM has none" {
	needs_vm
	local pid
	process sh -c 'cat /proc/$$/stat' | jq '.scheduler = {
		policy: "SCHED_DEADLINE", runtime: 80000000, deadline: 90000000, period: 100000000, flags: ["SCHED_FLAG_RESET_ON_FORK"]
	}' >"$T/process"
	same "$(runch exec --process "$T/process" "$ID" | policy)" 6
	for pid in $(family "$PID"); do
		same "$(policy <"/proc/$pid/stat")" 0
	done
}

# policy: prints the scheduling policy of a /proc/PID/stat on stdin.
policy() {
	sed 's/.*) //' | cut -d ' ' -f 39
}

# --- hooks ---

@test "hooks: in the order of the specification" {
	same "$(cat "$B/hooks/order")" "prestart.0
prestart.1
createRuntime.0
createRuntime.1
createContainer.0
createContainer.1
poststart.0
poststart.1"
}

@test "hooks: each gets the state on stdin, its arguments and its environment, in its directory" {
	needs_vm
	local name status dir
	for name in prestart createRuntime createContainer poststart; do
		status=creating dir=$B
		[ $name != poststart ] || status=running
		[ $name != createContainer ] || dir=$B/rootfs
		echo "$name"
		same "$(jq -c '[.ociVersion, .id, .status, .pid, .bundle, .annotations["org.example.key"]]' "$B/hooks/$name.1.json")" \
			"[\"1.0.2\",\"$ID\",\"$status\",$PID,\"$B\",\"a value\"]"
		same "$(cat "$B/hooks/$name.1.env")" "KEY=$name"
		same "$(cat "$B/hooks/$name.1.cwd")" "$dir"
	done
}

@test "hooks: those of the host run in the namespaces of the runtime, createContainer in the container's" {
	needs_vm
	local name
	for name in prestart createRuntime poststart; do
		diff "$B/hooks/$name.0.ns" <(namespaces self)
	done
	diff "$B/hooks/createContainer.0.ns" <(namespaces "$PID")
}

namespaces() {
	local ns
	for ns in mnt net pid uts ipc; do
		readlink "/proc/$1/ns/$ns"
	done
}

@test "hooks: startContainer runs in the guest, in the container" {
	needs_vm
	same "$(jq -r '[.id, .status, .annotations["org.example.key"]] | join(" ")' "$B/rootfs/hook.json")" "$ID created a value"
	same "$(cat "$B/rootfs/hook.env")" startContainer
	same "$(cat "$B/rootfs/hook.kernel")" "$(execute uname -r)"
	[ "$(cat "$B/rootfs/hook.kernel")" != "$(uname -r)" ]
}

# fails TEXT: prints a hook that writes the text to stderr and fails.
fails() {
	jq -cn --arg script "echo $1 >&2; exit 3" '{path: "/bin/sh", args: ["sh", "-c", $script]}'
}

@test "hooks: one that fails before the container is there fails create, in runc's words, and poststop follows" {
	needs_vm
	own
	local kind
	for kind in prestart createRuntime createContainer; do
		config --arg kind $kind --argjson bad "$(fails "no $kind")" --arg after "$B/after" '
			{path: "/bin/sh", args: ["sh", "-c", "cat >\($after)"]} as $after | .hooks = {($kind): [{path: "/bin/true"}, $bad, $after], poststop: [$after]}'
		rm -f "$B/after"
		try create
		same "$status" 1
		[[ $output == *"error running $kind hook #1: exit status 3, stdout+stderr: "*"no $kind"* ]]
		same "$(jq -r .status "$B/after")" stopped
		[ ! -e "$B/pid" ]
		gone
	done
}

@test "hooks: one that takes longer than its timeout fails" {
	own
	config '.hooks = {createRuntime: [{path: "/bin/sleep", args: ["sleep", "60"], timeout: 1}]}'
	try within 20000 create
	same "$status" 1
	[[ $output == *"hook #0: hook ran past specified timeout of 1.0s"* ]]
}

@test "hooks: one that fails after the start ends the container; poststop hooks all run at delete, without a pid" {
	needs_vm
	own
	config --argjson bad "$(fails "no more")" --arg after "$B/after" '
		{path: "/bin/sh", args: ["sh", "-c", "cat >\($after)"]} as $after | .hooks = {poststart: [$bad], poststop: [$bad, $after]}'
	args sleep 10000
	create
	try runch start "$ID"
	same "$status" 1
	[[ $stderr == *"error running poststart hook #0: exit status 3"*"no more"* ]]
	same "$(exit_status "$PID")" 137
	state_is stopped
	try runch delete "$ID"
	same "$status" 0
	[[ $stderr == *"error running poststop hook #0: exit status 3"* ]]
	same "$(jq -c '[.id, .status, .pid]' "$B/after")" "[\"$ID\",\"stopped\",null]"
}

# --- what nobody can do ---

@test "a field that cannot be honoured fails create with its name, and nothing is made" {
	needs_vm
	own
	cp "$B/config.json" "$B/good.json"
	local field change disks=(/sys/dev/block/*) # of the host
	local -x DISK=${disks[0]##*/}
	while IFS='|' read -r field change; do
		cp "$B/good.json" "$B/config.json"
		config "$change"
		try create
		same "$status" 1
		[[ ${output//\\\"/\"} == *"$field: "* ]] || { # the log line has escaped quotes
			echo "does not name $field"
			return 1
		}
		gone
		clean
	done <<-'EOT'
		vm|.vm = {kernel: {path: "/k"}}
		windows|.windows = {layerFolders: ["x"]}
		ociVersion|.ociVersion = "2.0.0"
		root.path|.root.path = "nowhere"
		linux|del(.linux)
		linux.intelRdt|.linux.intelRdt = {closID: "x"}
		linux.netDevices|.linux.netDevices = {eth0: {name: "net0"}}
		linux.seccomp.syscalls[0].action|.linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["read"], action: "SCMP_ACT_NOTIFY"}]}
		linux.namespaces[0].path|.linux.namespaces[0].path = "/proc/1/ns/pid"
		linux.namespaces|.linux.namespaces |= map(select(.type != "ipc"))
		linux.devices[0]|.linux.devices = (env.DISK / ":" | map(tonumber) | [{path: "/dev/disk", type: "b", major: .[0], minor: .[1]}])
		linux.personality.flags|.linux.personality = {domain: "LINUX", flags: ["x"]}
		linux.memoryPolicy.nodes|.linux.memoryPolicy = {mode: "MPOL_BIND", nodes: "1"}
		linux.timeOffsets|.linux.timeOffsets = {monotonic: {secs: 1}}
		linux.sysctl["kernel.panic"]|.linux.sysctl = {"kernel.panic": "1"}
		linux.resources.memory.kernel|.linux.resources.memory = {kernel: 1}
		linux.resources.memory.kernelTCP|.linux.resources.memory = {kernelTCP: 1}
		linux.resources.memory.disableOOMKiller|.linux.resources.memory = {disableOOMKiller: true}
		linux.resources.cpu.realtimeRuntime|.linux.resources.cpu = {realtimeRuntime: 1}
		linux.resources.cpu.realtimePeriod|.linux.resources.cpu = {realtimePeriod: 1}
		linux.resources.blockIO.leafWeight|.linux.resources.blockIO = {leafWeight: 10}
		linux.resources.hugepageLimits[0]|.linux.resources.hugepageLimits = [{pageSize: "1GB", limit: 1}]
		linux.resources.network.classID|.linux.resources.network = {classID: 1}
		linux.resources.network.priorities|.linux.resources.network = {priorities: [{name: "eth0", priority: 1}]}
		linux.resources.rdma|.linux.resources.rdma = {mlx: {hcaHandles: 1}}
		linux.resources.unified["io.max"]|.linux.resources.unified = {"io.max": "8:0 rbps=1"}
		mounts[0].uidMappings|.mounts[0].uidMappings = [{containerID: 0, hostID: 1, size: 1}]
		mounts[0].options[0]|.mounts[0].options = ["idmap"]
		mounts[0].type|.mounts[0].type = "ext4"
		mounts[0].source|.mounts[0] = {destination: "/x", type: "bind", source: "/proc"}
		process.rlimits[0].type|.process.rlimits[0].type = "RLIMIT_X"
		process.scheduler.policy|.process.scheduler = {policy: "SCHED_X"}
		process.ioPriority.class|.process.ioPriority = {class: "X", priority: 1}
	EOT
}

@test "capabilities that nobody knows are not given, with a warning in runc's words" {
	needs_vm
	own
	# The hook makes create fail, so that the test need not wait for a VM.
	config '.process.capabilities.bounding += ["CAP_FUTURE"] | .hooks = {prestart: [{path: "/bin/false"}]}'
	try create
	same "$status" 1
	[[ $output == *"ignoring unknown or unavailable capabilities: [CAP_FUTURE]"* ]]
}
