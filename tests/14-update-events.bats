#!/usr/bin/env bats
# update changes a running container's limits, and events reports its statistics. All tests share one container, whose
# limits are reset before each test.

load helpers

setup_file() {
	share
	# In MiB: MORE is the higher memory limit. FILL is more than the host's cgroup allows with the lower one. With KVM
	# vmm_overhead is small, so that less memory is enough: a guest on an emulated host gives memory back slowly. TCG
	# needs the default overhead.
	export MORE=640 FILL=450
	export RUNCH_MAX_MEMORY=2G
	if kvm; then
		export RUNCH_VMM_OVERHEAD=96M MORE=320 FILL=250
	fi
	bundle
	config '.linux.resources.memory = {limit: 67108864}
		| .linux.resources.cpu = {shares: 100, quota: 50000, period: 100000}
		| .linux.resources.pids = {limit: 20}'
	config '.linux.namespaces += [{type: "cgroup"}]
		| .mounts += [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["ro"]},
			{destination: "/mem", type: "tmpfs", source: "tmpfs", options: ["size=500m"]}]'
	args sleep 10000
	launch
	shared
}

teardown_file() {
	unshare_all
}

setup() {
	begin
	runch update --memory 67108864 --cpu-share 100 --cpu-quota 50000 --cpu-period 100000 --pids-limit 20 "$ID"
}

teardown() {
	finish
}

# kvm: whether KVM runs the guests.
kvm() { runch env | grep -q '^accel *kvm'; }

# guest FILE: prints a file of the container's own cgroup in the guest.
guest() {
	execute cat "/sys/fs/cgroup/$1"
}

@test "limits given by flags are exact in the guest; on the host memory has the guest's overhead added" {
	needs_vm
	local before
	before=$(host_memory)
	runch update --memory 96M --pids-limit 30 --cpu-quota 20000 --cpu-share 200 "$ID"
	same "$(guest memory.max)" $((96 << 20))
	same "$(guest pids.max)" 30
	same "$(guest cpu.max)" "20000 100000" # the period is not changed
	same "$(host_memory)" $((before + (32 << 20)))
}

@test "the VM has the memory and the CPUs for its new limits, and not more than it was made for" {
	needs_vm
	local before
	before=$(memory_total)
	more_memory --cpu-quota 150000
	# With TCG no CPUs are added.
	if kvm; then
		same "$(execute nproc)" 2
	else
		same "$(execute nproc)" 1
	fi
	same "$(guest cpu.max)" "150000 100000"
	runch update --memory 64M --cpu-quota 50000 "$ID"
	eventually 20 shrunk $((before + 100))
	same "$(execute nproc)" 1

	try runch update --memory 900T "$ID"
	same "$status" 1
	[[ $stderr == *max_memory* ]]
	same "$(guest memory.max)" $((64 << 20))
}

# shrunk MIB: whether the guest has less memory than this.
shrunk() { [ "$(memory_total)" -lt "$1" ]; }

# more_memory OPTION...: updates the limit to $MORE. The guest's kernel has all of that memory when update returns.
more_memory() {
	local before
	before=$(memory_total)
	runch update --memory "${MORE}M" "$@" "$ID"
	[ "$(memory_total)" -ge $((before + MORE - 140)) ]
}

# memory_total: prints the guest's memory in MiB, nothing if the guest does not answer.
memory_total() {
	execute awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo
}

@test "memory that the container has freed is no use of it, whatever the host has seen: a lower limit is set and nobody dies" {
	needs_vm
	local before
	before=$(host_memory)
	more_memory --cpu-quota -1
	use_and_free
	runch update --memory 64M "$ID"
	same "$(guest memory.max)" $((64 << 20))
	same "$(host_memory)" "$before"
	same "$(execute echo alive)" alive
}

@test "memory that a VM was made with stays with it, so it is in the host's limit whatever the container's is" {
	needs_vm
	local made
	own
	config '.linux.resources.memory = {limit: 536870912}
		| .mounts += [{destination: "/mem", type: "tmpfs", source: "tmpfs", options: ["size=500m"]}]'
	args sleep 10000
	launch
	made=$(host_memory)
	use_and_free
	runch update --memory 64M "$ID"
	same "$(host_memory)" "$made"
	same "$(execute echo alive)" alive
	runch update --memory 500M "$ID"
	same "$(host_memory)" "$made"
	runch update --memory 600M "$ID"
	same "$(host_memory)" $((made + (88 << 20)))
}

@test "a guest that keeps its memory costs a warning, and the host's limit stays until it has given that back" {
	needs_vm
	local made higher
	own
	config '.linux.resources.memory = {limit: 67108864} | .linux.readonlyPaths = []'
	args sleep 10000
	launch
	made=$(host_memory)
	more_memory
	higher=$(host_memory)
	# The guest's kernel cannot give back memory with huge pages that it cannot move. There are more of these than fit
	# into the memory that the VM was made with.
	execute sh -c 'echo 120 >/proc/sys/vm/nr_hugepages && grep -qx 120 /proc/sys/vm/nr_hugepages'
	try runch update --memory 64M --pids-limit 30 "$ID"
	same "$status" 0
	[[ $stderr == *"has not given back"* ]]
	same "$(host_memory)" "$higher"
	same "$(runch events --stats "$ID" | jq -c '[.data.memory.usage.limit, .data.pids.limit]')" "[$((64 << 20)),30]"

	execute sh -c 'echo 0 >/proc/sys/vm/nr_hugepages'
	runch update --memory "${MORE}M" "$ID"
	try runch update --memory 64M "$ID"
	same "$status" 0
	same "$stderr" ""
	same "$(host_memory)" "$made"
}

@test "memory that a container has freed is the host's again, without an update" {
	needs_vm
	local vmm full
	vmm=$(pgrep --parent "$PID" -f "${VMM_PROGRAM##*/}")
	guest_memory() { awk '$1 == "Pss_Shmem:" { print $2 }' "/proc/$vmm/smaps_rollup"; } # in KiB
	given_back() { [ "$(guest_memory)" -lt $((full - 150 * 1024)) ]; }
	more_memory
	execute dd if=/dev/zero of=/mem/file bs=1M count=200 2>/dev/null
	full=$(guest_memory)
	execute rm /mem/file
	eventually 20 given_back
}

# use_and_free: the container uses and frees more memory than the host's cgroup allows under the lower limit.
use_and_free() {
	execute sh -c "dd if=/dev/zero of=/mem/file bs=1M count=$FILL 2>/dev/null && rm /mem/file"
}

@test "limits given as JSON, by a file and by the standard input, with names in any case" {
	echo '{"memory": {"limit": 50331648}, "Pids": {"LIMIT": 40}}' >"$T/resources"
	runch update --resources "$T/resources" "$ID"
	same "$(guest memory.max)" 50331648
	same "$(guest pids.max)" 40
	echo '{"CPU": {"Quota": 30000, "Period": 60000}}' | runch update -r - "$ID"
	same "$(guest cpu.max)" "30000 60000"
	same "$(guest memory.max)" 50331648 # limits that are not named do not change
	# containerd passes all resources of the container's spec, device rules too.
	echo '{"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 41}}' | runch update -r - "$ID"
	same "$(guest pids.max)" 41
}

@test "files of cgroup v2 can be set as well" {
	needs_vm
	echo '{"unified": {"memory.high": "41943040"}}' | runch update -r - "$ID"
	same "$(guest memory.high)" 41943040
	echo '{"unified": {"memory.high": "max"}}' | runch update -r - "$ID"
}

@test "what cannot be had is refused by name, and nothing is changed" {
	local change
	for change in '{"memory": {"limit": -7}}' '{"cpu": {"realtimeRuntime": 5}}' '{"rdma": {"mlx": {"hcaHandles": 1}}}' \
		'{"memory": {"limit": 4096, "checkBeforeUpdate": true}}' '{"memory": 5}' '{' '{"memory": {"limit": 33554432}, "cpu": {"quota": 1}}'; do
		if ! is_runch && [[ $change == *rdma* || $change == *-7* ]]; then continue; fi
		try update_from "$change"
		same "$status" 1
		[ -n "$stderr" ] && [ "$(wc -l <"$T/.err")" -le 1 ]
	done
	same "$(guest memory.max)" $((64 << 20))
	same "$(guest cpu.max)" "50000 100000"
	for change in "--memory x" "--cpu-quota 1.5" "--cpu-share -1" "--no-such-flag 1"; do
		# shellcheck disable=SC2086 # a flag and its value
		try runch update $change "$ID"
		same "$status" 1
		[[ $stderr == *"${change%% *}"* || $stderr == *"invalid value for"* || $stderr == *no-such-flag* ]]
	done
}

# update_from JSON
update_from() {
	runch update -r - "$ID" <<<"$1"
}

@test "a container that has stopped, or is none, cannot be updated" {
	try runch update --memory 64M no-such-container
	same "$status" 1
	[[ $stderr == *"container does not exist"* ]]
	own
	args true
	launch
	exit_status "$PID"
	try runch update --memory 64M "$ID"
	same "$status" 1
	[[ $stderr == *"container not running"* ]]
	try runch events --stats "$ID"
	same "$status" 1
	[[ $stderr == *"is not running"* ]]
	runch delete "$ID"
}

@test "events --stats tells what the guest's cgroup has used, in runc's form" {
	try runch events --stats "$ID"
	same "$status" 0
	same "$(jq -r .type <<<"$output")" stats
	same "$(jq -r .id <<<"$output")" "$ID"
	[ "$(jq .data.memory.usage.limit <<<"$output")" = $((64 << 20)) ]
	[ "$(jq .data.memory.usage.usage <<<"$output")" -gt 0 ]
	[ "$(jq .data.pids.current <<<"$output")" -ge 1 ]
	same "$(jq .data.pids.limit <<<"$output")" 20
	[ "$(jq .data.cpu.usage.total <<<"$output")" -gt 0 ]
}

@test "events goes on at its interval, tells of a kill for lack of memory, and ends with the container" {
	needs_vm
	own
	config '.linux.resources.memory = {limit: 33554432}'
	args sleep 10000
	launch
	helper runch events --interval 300ms "$ID" >"$T/events"
	local events=$helper
	eventually 20 says '"type":"stats"' "$T/events"
	execute dd if=/dev/zero of=/dev/null bs=40M count=1 || true
	eventually 20 says '"type":"oom"' "$T/events"
	same "$(jq -s 'map(select(.type == "oom")) | length > 0' "$T/events")" true
	runch kill "$ID" KILL
	eventually 20 dead "$events"
	local status=0
	wait "$events" || status=$?
	same "$status" 0
	runch delete "$ID"
}

@test "a process that needs more memory than its container has is killed within seconds" {
	needs_vm
	own
	config '.linux.resources.memory = {limit: 16777216}'
	args sleep 10000
	launch
	# With the multi-gen LRU, two such processes can spend minutes on evicting pages of their program from each other.
	for _ in 1 2 3 4; do
		within 40000 try execute sh -c 'test=$(dd if=/dev/urandom ibs=5120k)'
		same "$status" 137
	done
	same "$(execute cat /sys/kernel/mm/lru_gen/enabled)" 0x0000
	runch delete --force "$ID"
}

@test "events takes no interval that is none" {
	try runch events --interval 0s "$ID"
	same "$status" 1
	[[ $stderr == *"duration interval must be greater than 0"* ]]
}
