#!/usr/bin/env bats
# Mixed mode with containerd's CRI plugin: a hostNetwork pod and a pod in a VM, by one handler; see 31-mixed.bats.

# The runtime inherits the variable from containerd and its shim.
export RUNCH_FALLBACK_RUNTIME=runc
# runc fails if it may not lower oom_score_adj, as on a host that is a container itself.
export RESTRICT_OOM_SCORE=true

load helpers
load kubelet

# host_pod: runs a pod with hostNetwork, and sets POD.
host_pod() {
	pod_config
	jq '.metadata.name += "-host" | .metadata.uid += "-host" | del(.hostname) |
		del(.linux.cgroup_parent) | .linux.security_context.namespace_options = {network: 2}' <"$T/pod.json" >"$T/pod.json.new"
	mv "$T/pod.json.new" "$T/pod.json"
	POD=$(cri runp "$T/pod.json")
}

# host_member NAME COMMAND...: starts a member of it, also on the host's network, and sets C.
host_member() {
	jq -n --arg name "$1" --arg image "$BUSYBOX" --arg volume "$T/volume" \
		'{metadata: {name: $name}, image: {image: $image}, command: $ARGS.positional, log_path: "\($name).log",
			mounts: [{host_path: $volume, container_path: "/volume"}],
			linux: {security_context: {namespace_options: {network: 2}}}}' --args -- "${@:2}" >"$T/$1.json"
	C=$(cri create "$POD" "$T/$1.json" "$T/pod.json")
	cri start "$C" >/dev/null
}

@test "a hostNetwork pod beside a pod in a VM: networks, kernels, probes, logs, figures, and the end of each" {
	is_runch || skip "this is about what is not in a VM"
	pod
	launch_member inside sleep 100000
	local vm=$POD inside=$C
	host_pod
	local host=$POD
	host_member outside sh -c 'echo begun; exec httpd -f -p 127.0.0.1:8090 -h /volume'
	local outside=$C
	# The host's network namespace is the one in which containerd runs.
	same "$(readlink "/proc/$(cri inspect "$outside" | jq .info.pid)/ns/net")" "$(readlink "/proc/$REGISTRY_PID/ns/net")"
	same "$(in_member "$outside" cat /proc/sys/kernel/random/boot_id)" "$(</proc/sys/kernel/random/boot_id)"
	[ "$(in_member "$inside" cat /proc/sys/kernel/random/boot_id)" != "$(</proc/sys/kernel/random/boot_id)" ]
	echo page >"$T/volume/page"
	eventually 10 in_network wget -qO- http://127.0.0.1:8090/page
	same "$(cri logs "$outside")" begun
	try in_member "$outside" sh -c 'exit 7'
	[[ $stderr == *"exited with 7"* ]]
	[ "$(cri stats --output json "$outside" | jq '.stats[0].memory.workingSetBytes.value | tonumber')" -gt 0 ]
	same "$(runch list --format json | jq -r --arg host "$host" --arg outside "$outside" \
		'[.[] | select(.fallback) | .id] - [$host, $outside] | length')" 0
	same "$(runch list --format json | jq '[.[] | select(.fallback == null)] | length')" 2
	same "$(runch list --format json | jq '[.[] | select(.fallback)] | length')" 2
	# A member is killed, and replaced by another.
	kill -KILL "$(cri inspect "$outside" | jq .info.pid)"
	eventually 10 status_is "$outside" "CONTAINER_EXITED 137"
	host_member again sleep 100000
	cri stopp "$host" >/dev/null
	cri rmp "$host" >/dev/null
	in_member "$inside" true
	POD=$vm
	end_pod
}
