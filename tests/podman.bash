#!/bin/bash
# A podman of the suite's own. Its storage, networks, locks and events are in $SHARED, and runch's state is in $ROOT: it
# neither needs nor disturbs another podman on the machine. Names that they share do not collide: cgroups and network
# namespaces are named by ids, the bridge by the suite, and addresses are random.

load helpers
load lab/callers

# engine: for setup_file, sets up a podman with an image and a network, for all tests of a file.
engine() {
	share
	NETWORK=rt${T##*.}
	export NETWORK
	local settings=
	if is_runch; then
		settings="--config $T/runch.toml"
		# conmon passes no environment variables on to the runtime.
		printf 'log_dir = "%s"\n' "$T/logs" >"$T/runch.toml"
	fi
	printf '#!/bin/sh\nexec %s --root %s %s "$@"\n' "$RUNCH" "$ROOT" "$settings" >"$T/runch"
	chmod +x "$T/runch"
	# A host that is a container itself may not allow higher limits. http_proxy must not affect connections between
	# containers.
	cat >"$T/containers.conf" <<-EOT
		[containers]
		default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
		http_proxy = false
		[engine]
		runtime = "runch"
		runtime_supports_json = ["runch"]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		lock_type = "file"
		[engine.runtimes]
		runch = ["$T/runch"]
	EOT
	cat >"$T/podman" <<-EOT
		#!/bin/sh
		CONTAINERS_CONF=$T/containers.conf exec podman --root $T/storage --runroot $T/run --tmpdir $T/tmp \\
		  --network-config-dir $T/networks "\$@"
	EOT
	chmod +x "$T/podman"
	netns >"$T/netns"
	shared
	network "$NETWORK" --disable-dns
	printf '[network]\ndefault_network = "%s"\n' "$NETWORK" >>"$SHARED/containers.conf"
	image
}

# network NAME WORD...: makes a network whose bridge has its name. The subnet is random: podman's choice of a free one
# could be the same as another suite's.
network() {
	podman network create --subnet "10.$((100 + RANDOM % 100)).$((RANDOM % 256)).0/24" "${@:2}" "$1" >/dev/null
	sed -i "s/\"network_interface\": \".*\"/\"network_interface\": \"$1\"/" "$SHARED/networks/$1.json"
}

# podman WORD...: runs that podman, with a deadline.
podman() {
	timeout --foreground --kill-after=5 "${DEADLINE:-120}" "$SHARED/podman" "$@" 3>&-
}

# finish_podman: for teardown, removes everything by podman, which has to leave nothing.
finish_podman() {
	eventually 20 remove_all
	podman volume prune --force >/dev/null
	if ! eventually 10 none_left; then
		left
		return 1
	fi
	# podman removes a pod's cgroup only in hierarchies with a controller, with any runtime.
	made | find_cgroups | xargs -r rmdir
	finish
}

# remove_all: tries to remove all pods and containers, and fails if some are left. podman removes them in parallel, so a
# container whose dependents still exist stays, and so does its pod.
remove_all() {
	podman pod rm --all --force --time 0 >/dev/null 2>"$T/.rm" || true
	podman rm --all --force --time 0 >/dev/null 2>>"$T/.rm" || true
	[ -z "$(podman pod ps --quiet)$(podman ps --all --quiet)" ] || ! cat "$T/.rm" >&2
}

none_left() {
	[ -z "$(left)" ]
}

# left: lists what is left of containers and pods that were removed.
left() {
	leftovers
	grep -F "$SHARED/" /proc/self/mountinfo | sed 's/^/mount /'
	made | find_cgroups | grep -v -e ^/sys/fs/cgroup/systemd/ -e ^/sys/fs/cgroup/unified/ | sed 's/^/cgroup /'
	comm -13 "$SHARED/netns" <(netns) | grep -v -F -x -f <(inhabited) | sed 's/^/network namespace /'
	find /sys/class/net -name "$NETWORK*" | sed 's/^/link /'
}

# made: prints the ids of all containers and pods that were ever made.
made() {
	podman events --stream=false --since 24h --filter event=create --format '{{.ID}}' | sort -u
}

# find_cgroups: prints the cgroups with one of the ids on stdin in their path, children first.
find_cgroups() {
	find /sys/fs/cgroup -ignore_readdir_race -depth -type d -path '*libpod*' | grep -F -f <(grep .) || true
}

# netns: prints the network namespaces made by any podman.
netns() {
	find /run/netns -name 'netns-*' 2>/dev/null | sort
}

# inhabited: prints those that have a process. They belong to another podman, as this one has no process left.
inhabited() {
	netns | xargs -r stat -c '%i %n' 2>/dev/null |
		grep -w -F -f <(stat -L -c %i /proc/[0-9]*/ns/net 2>/dev/null) | cut -d ' ' -f 2
}

# vmms: prints how many VMs the suite's containers have.
vmms() {
	local ids pid count=0
	ids=$(podman ps --all --quiet --no-trunc)
	for pid in $(pgrep -f "${VMM_PROGRAM##*/}"); do
		! grep -qaF "$ids" "/proc/$pid/cmdline" 2>/dev/null || count=$((count + 1))
	done
	echo $count
}

# one_vm: expects all of them in one VM.
one_vm() {
	! is_runch || same "$(vmms)" 1
}

# pod_create WORD...: makes the pod "pod", and sets INFRA to its infra container's name.
pod_create() {
	podman pod create --name pod "$@" >"$T/pod"
	INFRA=$(cut -c 1-12 "$T/pod")-infra
}

# member NAME WORD...: runs a member of it in the background. The words are options, image and command.
member() {
	podman run --detach --pod pod --name "$1" "${@:2}" >/dev/null
}

# field NAME FORMAT: prints what podman inspect says of a container.
field() {
	podman inspect --type container --format "$2" "$1"
}

# is NAME STATUS: whether a container has this status.
is() {
	[ "$(field "$1" '{{.State.Status}}')" = "$2" ]
}

# states: prints the pod's state, and the states of its containers in the order of their names.
states() {
	podman pod inspect --format '{{.State}}' pod
	podman ps --all --quiet --filter pod=pod | xargs "$SHARED/podman" inspect --type container --format '{{.Name}} {{.State.Status}}' |
		sed 's/.*-infra/infra/' | sort
}

# namespaces NAME KIND...: prints namespaces of a container in the guest, one per line.
namespaces() {
	podman exec "$1" sh -c 'cd /proc/self/ns && for kind; do readlink "$kind"; done' sh "${@:2}"
}
