#!/usr/bin/env bats
# Several containers in one sandbox: which namespaces they share, and that each ends by itself. The runtime creates the
# first one; the test creates the others by the agent's own protocol.

load helpers

setup() {
	begin
	needs_vm
	bundle
	mkdir -p "$B/rootfs"/{dev,guest,proc,sys}
	args sleep 100000
}

teardown() {
	umount "$T/volume/below" 2>/dev/null || true
	finish
}

# member [OPTION...] NEW PROGRAM...: runs one more container in the sandbox of $ID; see tests/cmd/member.
member() {
	local options=()
	while [[ $1 == -* ]]; do
		options+=("$1")
		shift
	done
	timeout --foreground 60 "$TOOLS/member" "${options[@]}" "$ROOT" "$ID" "$@" 3>&-
}

# beside NAME [OPTION...] PROGRAM...: runs a member in the background. Its output goes to $T/NAME; $helper is the pid of
# tests/cmd/member.
beside() {
	local name=$1 options=()
	shift
	while [[ $1 == -* ]]; do
		options+=("$1")
		shift
	done
	: >"$T/$name"
	helper "$TOOLS/member" "${options[@]}" "$ROOT" "$ID" "$name" "$@" >"$T/$name" 2>&1
}

# said NAME TEXT: waits until the member has written the text.
said() {
	eventually 20 grep -q -- "$2" "$T/$1" || {
		cat "$T/$1"
		return 1
	}
}

# same TYPE LIST LIST: whether the namespace of this type is the same in both lists.
same() {
	[ "$(grep "^$1:" <<<"$2")" = "$(grep "^$1:" <<<"$3")" ]
}

differs() {
	if same "$@"; then
		return 1
	fi
}

readonly NAMESPACES='for n in ipc uts pid user net; do readlink /proc/self/ns/$n; done'

@test "members have cgroups, process lists and ends of their own, and their ids can be used again" {
	launch
	for _ in 1 2 3; do
		try member one sh -c 'cat /proc/self/cgroup; cat /guest/proc/$$/cgroup >/dev/null; echo hello; exit 3'
		[ "$status" -eq 3 ]
		[[ $output == *hello* ]]
	done
	beside two sh -c 'echo up; cat /guest/proc/self/cgroup; exec sleep 1000'
	said two /runch/two
	try member -memory=20000000 greedy dd if=/dev/zero of=/dev/null bs=100M count=1
	[ "$status" -eq 137 ]
	[[ $output == *"out of memory"* ]]
	[ "$(processes)" = 1 ] # without those of the other members
	kill "$helper"
	try member one true
	[ "$status" -eq 0 ]
	state_is running
}

@test "the sandbox's own namespaces are made by the first member that asks, and outlive it" {
	launch
	local own=(-join=ipc= -join=uts=)
	try member "${own[@]}" -hostname=pod first sh -c "$NAMESPACES"
	first=$output
	try member "${own[@]}" second sh -c "$NAMESPACES; hostname"
	second=$output
	same ipc "$first" "$second"
	same uts "$first" "$second"
	same net "$first" "$second"
	[[ $second == *pod* ]]
	try member third sh -c "$NAMESPACES"
	differs ipc "$first" "$output"
	differs uts "$first" "$output"
}

@test "members that are created at the same time share the sandbox's namespaces" {
	launch
	for i in 1 2 3 4; do
		beside "m$i" -join=ipc= -join=uts= -join=user= -user sh -c "$NAMESPACES; cat /proc/self/uid_map; echo up; exec sleep 1000"
	done
	for i in 1 2 3 4; do
		said "m$i" up
		cmp <(grep -v pid "$T/m$i") <(grep -v pid "$T/m1")
	done
	grep -q 100000 "$T/m1"
	state_is running
}

@test "a member joins the namespaces of another one, as long as that lives" {
	launch
	beside owner sh -c "$NAMESPACES; echo up; exec sleep 1000"
	said owner up
	owner=$helper
	try member -join=ipc=owner -join=uts=owner -join=pid=owner guest sh -c "$NAMESPACES; ps"
	[ "$status" -eq 0 ]
	for ns in ipc uts pid net; do
		same "$ns" "$(<"$T/owner")" "$output"
	done
	[[ $output == *"sleep 1000"* ]]
	kill "$owner"
	eventually 10 ended_owner
	try member -join=ipc=nobody guest true
	[[ $stderr == *"cannot join the ipc namespace of container nobody: container does not exist"* ]]
}

ended_owner() {
	try member -join=pid=owner late true
	[[ $status -eq 1 && $stderr == *"cannot join the pid namespace of container owner: container not running"* ]]
}

@test "the end of a pid namespace's owner kills who joined it, and a member's end only its own processes" {
	launch
	beside owner sh -c 'echo up; exec sleep 1000'
	said owner up
	owner=$helper
	for i in 1 2; do
		beside "guest$i" -join=pid=owner sh -c 'sleep 2000 & sleep 2000 & echo up; exec sleep 2000'
		said "guest$i" up
	done
	guest2=$helper
	try member -join=pid=owner look sh -c 'ps | grep -c "[s]leep 2000"'
	[ "$output" = 6 ]
	# When a member's init ends, its other processes end too.
	try member -join=pid=owner short sh -c 'sleep 3000 & sleep 3000 & exit 4'
	[ "$status" -eq 4 ]
	try member -join=pid=owner look sh -c 'ps | grep -c "[s]leep 3000"; ps | grep -c "[s]leep 2000"'
	[ "$output" = "0
6" ]
	kill "$owner"
	status=0
	wait "$guest2" || status=$?
	[ "$status" -eq 137 ]
	state_is running
}

@test "a member in the user namespace of the first container has the network that belongs to it" {
	config '.linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] | .linux.gidMappings = .linux.uidMappings'
	chown -R 100000:100000 "$B/rootfs"
	launch
	try member -user -sysfs "-join=user=$ID" guest sh -c 'cat /proc/self/uid_map; ls /sys/class/net; readlink /proc/self/ns/net'
	[ "$status" -eq 0 ]
	[[ $output == *100000* ]]
	[[ $output == *lo* ]]
	[[ $output == *"$(execute readlink /proc/self/ns/net)" ]]
	try member -user lonely sh -c 'readlink /proc/self/ns/net'
	[[ $output == *"$(execute readlink /proc/self/ns/net)" ]]
}

@test "the agent stays in its own mount namespace, however many containers come and go" {
	launch
	for i in {1..20}; do # repeated, as the agent's thread that handles a container varies
		try member "m$i" sh -c 'grep " / / " /guest/proc/1/mountinfo'
		[[ $output == *" rootfs "* ]]
	done
}

@test "what is mounted below a member's share is unmounted at its end" {
	mkdir -p "$T/volume/below"
	mount -t tmpfs tmpfs "$T/volume/below"
	config --arg source "$T/volume" '.mounts += [{destination: "/volume", type: "bind", source: $source, options: ["rbind"]}]'
	launch
	local shares='grep -c " /run/runch/shared/.*/below " /guest/proc/1/mountinfo'
	local share
	share=$(jq -r .share "$ROOT/$ID/container.json")
	below=$share/mounts/$(jq '.mounts | length - 1' "$B/config.json")/volume/below
	try member -submount="$below" before sh -c "$shares"
	[ "$output" = 1 ]
	try member -share="$share" ends true
	[ "$status" -eq 0 ]
	try member after sh -c "$shares"
	[ "$output" = 0 ]
	execute test -d /volume/below
	state_is running
}
