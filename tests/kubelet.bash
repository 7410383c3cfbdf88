#!/bin/bash
# The kubelet's requests to containerd, by crictl. Each suite that loads this has one containerd, in $CRI, for all of
# its tests. Each test has a pod of its own, $POD, whose cgroups are below $PARENT.

load containerd

setup_file() {
	[ -d /usr/lib/cni ] || skip "there are no CNI plugins: this is for a machine that scripts/deps test was run on"
	begin
	containerd_begin "$T/cri"
	cri pull "$BUSYBOX" >/dev/null
	export CRI REGISTRY_PID CONTAINERD_PID
}

teardown_file() {
	[ -n "${CRI:-}" ] || return 0
	T=${CRI%/*}
	containerd_end
	finish
}

setup() {
	begin
	ROOT=$CRI/runch/k8s.io
	PARENT=/runch-test/${T##*/}
}

teardown() {
	cri rmp --force "${POD:-}" >/dev/null 2>&1 || true
	find /sys/fs/cgroup -ignore_readdir_race -depth -type d -path "*$PARENT*" -exec rmdir {} + 2>/dev/null || true
	finish
}

# --- the kubelet's requests ---

# pod_config: writes the configuration of the test's pod to $T/pod.json.
pod_config() {
	mkdir -p "$T/logs" "$T/volume"
	jq -n --arg name "${T##*/}" --arg logs "$T/logs" --arg parent "$PARENT" \
		'{metadata: {name: $name, namespace: "test", uid: $name}, hostname: "pod", log_directory: $logs, linux: {cgroup_parent: $parent}}' >"$T/pod.json"
}

# pod: runs a pod without members, and sets POD and HOLDER.
pod() {
	pod_config
	POD=$(cri runp "$T/pod.json")
	HOLDER=$(cri inspectp "$POD" | jq .info.pid)
}

# add NAME[.ATTEMPT] COMMAND...: creates a member with the volume at /volume, and sets C.
add() {
	jq -n --arg name "${1%.*}" --arg attempt "${1#*.}" --arg log "$1.log" --arg image "$BUSYBOX" --arg volume "$T/volume" \
		'{metadata: {name: $name, attempt: ($attempt | tonumber? // 0)}, image: {image: $image}, command: $ARGS.positional,
			mounts: [{host_path: $volume, container_path: "/volume"}], log_path: $log, linux: {}}' --args -- "${@:2}" >"$T/$1.json"
	C=$(cri create "$POD" "$T/$1.json" "$T/pod.json")
}

# launch_member NAME[.ATTEMPT] COMMAND...: creates and starts one.
launch_member() {
	add "$@"
	cri start "$C" >/dev/null
}

# in_member C COMMAND...: runs a command in a member, as a probe does.
in_member() {
	cri exec --sync "$@"
}

# status C: prints a member's state and exit code.
status() {
	cri inspect "$1" | jq -r '.status | "\(.state) \(.exitCode)"'
}

status_is() {
	[ "$(status "$1")" = "$2" ]
}

# not_ready: whether containerd considers the pod ended.
not_ready() {
	[ "$(cri inspectp "$POD" | jq -r .status.state)" = SANDBOX_NOTREADY ]
}

# vms: prints the pids of the processes of this containerd's VMs.
vms() {
	pgrep -f -- "$CRI/runch" || true
}

no_vms() { [ -z "$(vms)" ]; }

# end_pod: ends the pod as the kubelet does. Nothing may be left.
end_pod() {
	cri stopp "$POD" >/dev/null
	cri rmp "$POD" >/dev/null
	same "$(cri ps --all --quiet --pod "$POD")" ""
	nothing_left
}

# nothing_left: expects that nothing of a pod is left, on the host and in the network.
nothing_left() {
	eventually 10 no_vms # containerd may still be cleaning up after a shim that has ended
	same "$(find "$ROOT" -mindepth 1 2>/dev/null)" ""
	same "$(grep -F "$CRI/state" /proc/self/mountinfo)" ""
	same "$(find "$CRI/state/io.containerd.grpc.v1.cri/netns" -mindepth 1)" ""
	same "$(in_network ip -o link show type veth)" ""
	# The parent belongs to the caller. It can be removed if nothing is left below it.
	find /sys/fs/cgroup -ignore_readdir_race -maxdepth 3 -type d -path "*$PARENT" -exec rmdir {} +
	same "$(find /sys/fs/cgroup -ignore_readdir_race -type d -path "*$PARENT*")" ""
}
