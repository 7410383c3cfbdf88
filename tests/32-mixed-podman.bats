#!/usr/bin/env bats
# Mixed mode with podman: containers and pods on the host's network, and others in VMs; see 31-mixed.bats.

load podman

setup_file() {
	is_runch || skip "this is about what is not in a VM"
	engine
	printf 'fallback_runtime = "runc"\n' >>"$SHARED/runch.toml"
}

teardown_file() {
	unshare_all
}

setup() {
	begin
}

teardown() {
	finish_podman
}

# of_host PID KIND: whether the process is in the host's namespace of this kind.
of_host() {
	[ "$(readlink "/proc/$1/ns/$2")" = "$(readlink "/proc/self/ns/$2")" ]
}

@test "podman: --network, --pid and --ipc host beside a container in a VM, under one runtime" {
	podman run --detach --name vm "$IMAGE" sleep 100000
	same "$(vmms)" 1
	podman run --detach --name net --network host "$IMAGE" sleep 100000
	podman run --detach --name pids --pid host --ipc host "$IMAGE" sleep 100000
	same "$(vmms)" 1
	of_host "$(field net '{{.State.Pid}}')" net
	of_host "$(field pids '{{.State.Pid}}')" pid
	of_host "$(field pids '{{.State.Pid}}')" ipc
	# The boot id tells whether a container runs on the host's kernel.
	same "$(podman exec net cat /proc/sys/kernel/random/boot_id)" "$(</proc/sys/kernel/random/boot_id)"
	[ "$(podman exec vm cat /proc/sys/kernel/random/boot_id)" != "$(</proc/sys/kernel/random/boot_id)" ]
	same "$(runch list --format json | jq -r '[.[] | .fallback != null] | sort | map(tostring) | join(" ")')" "false true true"
	# A container that joins the network of such a container is passed on as well.
	podman run --detach --name joined --network container:pids "$IMAGE" sleep 100000
	same "$(readlink "/proc/$(field joined '{{.State.Pid}}')/ns/net")" "$(readlink "/proc/$(field pids '{{.State.Pid}}')/ns/net")"
	same "$(vmms)" 1
	podman exec net sh -c 'echo written >/file'
	podman cp net:/file "$T/file"
	same "$(<"$T/file")" written
	podman pause net
	podman unpause net
	same "$(podman run --rm --network host "$IMAGE" sh -c 'echo out; exit 6' || echo "code $?")" $'out\ncode 6'
	podman stop --time 0 net
	is net exited
	podman start net
	podman rm --force --time 0 joined
	podman rm --force --time 0 net pids vm
	eventually 10 none_left
}

@test "podman: a pod on the host's network has all of its containers there, without a VM" {
	pod_create --network host
	member a "$IMAGE" sleep 100000
	member b "$IMAGE" sleep 100000
	same "$(vmms)" 0
	of_host "$(field a '{{.State.Pid}}')" net
	same "$(states)" $'Running\na running\nb running\ninfra running'
	podman exec a sh -c 'echo from a >/dev/shm/file'
	same "$(podman exec b cat /dev/shm/file)" "from a"
	podman pod rm --force --time 0 pod
	eventually 10 none_left
}

@test "podman: the container's process is killed; nothing is left after rm" {
	podman run --detach --name a --network host "$IMAGE" sleep 100000
	kill -KILL "$(field a '{{.State.Pid}}')"
	same "$(timeout 30 "$SHARED/podman" wait a)" 137
	podman rm a
	eventually 10 none_left
}
