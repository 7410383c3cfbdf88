#!/bin/bash
# A podman of the suite's own. Its storage, networks, locks and events are in $SHARED, and runch's state is in $ROOT: it
# neither needs nor disturbs another podman on the machine. What they have in common is named by ids (cgroups, network
# namespaces), by the suite (its bridge), or chosen by chance (addresses).

load helpers
load lab/callers

# engine: in setup_file, a podman with an image and a network, for all tests of a file.
engine() {
	share
	NETWORK=rt${T##*.}
	export NETWORK
	local settings=
	if is_runch; then
		settings="--config $T/runch.toml"
		# conmon gives the runtime no variables.
		printf 'log_dir = "%s"\n' "$T/logs" >"$T/runch.toml"
	fi
	printf '#!/bin/sh\nexec %s --root %s %s "$@"\n' "$RUNCH" "$ROOT" "$settings" >"$T/runch"
	chmod +x "$T/runch"
	# The limits are what a host may give that is a container itself, and http_proxy is not to come between two containers.
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

# network NAME WORD...: a network, whose bridge has its name. What podman would take for free another suite may take, too.
network() {
	podman network create --subnet "10.$((100 + RANDOM % 100)).$((RANDOM % 256)).0/24" "${@:2}" "$1" >/dev/null
	sed -i "s/\"network_interface\": \".*\"/\"network_interface\": \"$1\"/" "$SHARED/networks/$1.json"
}

# podman WORD...: that podman, in good time.
podman() {
	timeout --foreground --kill-after=5 "${DEADLINE:-120}" "$SHARED/podman" "$@" 3>&-
}

# finish_podman: in teardown, removes what the test has made. podman itself has to leave nothing of it.
finish_podman() {
	eventually 20 remove_all
	podman volume prune --force >/dev/null
	if ! eventually 10 none_left; then
		left
		return 1
	fi
	# podman removes a pod's cgroup where there is a controller, with any runtime.
	made | find_cgroups | xargs -r rmdir
	finish
}

# remove_all: removes all pods and containers. podman does it side by side, so that one whose dependents are still there
# stays, and a pod with it.
remove_all() {
	podman pod rm --all --force --time 0 >/dev/null 2>"$T/.rm" || true
	podman rm --all --force --time 0 >/dev/null 2>>"$T/.rm" || true
	[ -z "$(podman pod ps --quiet)$(podman ps --all --quiet)" ] || ! cat "$T/.rm" >&2
}

none_left() {
	[ -z "$(left)" ]
}

# left: what there is of containers and pods that are no more.
left() {
	leftovers
	grep -F "$SHARED/" /proc/self/mountinfo | sed 's/^/mount /'
	made | find_cgroups | grep -v -e ^/sys/fs/cgroup/systemd/ -e ^/sys/fs/cgroup/unified/ | sed 's/^/cgroup /'
	comm -13 "$SHARED/netns" <(netns) | grep -v -F -x -f <(inhabited) | sed 's/^/network namespace /'
	find /sys/class/net -name "$NETWORK*" | sed 's/^/link /'
}

# made: the ids of all containers and pods that there ever were.
made() {
	podman events --stream=false --since 24h --filter event=create --format '{{.ID}}' | sort -u
}

# find_cgroups: the cgroups that have one of the ids on stdin in their path, those below first.
find_cgroups() {
	find /sys/fs/cgroup -ignore_readdir_race -depth -type d -path '*libpod*' | grep -F -f <(grep .) || true
}

# netns: the network namespaces that podmans have made.
netns() {
	find /run/netns -name 'netns-*' 2>/dev/null | sort
}

# inhabited: those of them that a process is in: of another podman, as ours is to have none.
inhabited() {
	netns | xargs -r stat -c '%i %n' 2>/dev/null |
		grep -w -F -f <(stat -L -c %i /proc/[0-9]*/ns/net 2>/dev/null) | cut -d ' ' -f 2
}

# vmms: how many VMs the suite's containers are in.
vmms() {
	local ids pid count=0
	ids=$(podman ps --all --quiet --no-trunc)
	for pid in $(pgrep -f "${VMM_PROGRAM##*/}"); do
		! grep -qaF "$ids" "/proc/$pid/cmdline" 2>/dev/null || count=$((count + 1))
	done
	echo $count
}

# one_vm: all of them are in one.
one_vm() {
	! is_runch || same "$(vmms)" 1
}

# pod_create WORD...: the pod "pod"; its infra container's name goes to $INFRA.
pod_create() {
	podman pod create --name pod "$@" >"$T/pod"
	INFRA=$(cut -c 1-12 "$T/pod")-infra
}

# member NAME WORD...: a member of it that runs in the background; options come before the image, which is given.
member() {
	podman run --detach --pod pod --name "$1" "${@:2}" >/dev/null
}

# field NAME FORMAT: what podman knows of a container.
field() {
	podman inspect --type container --format "$2" "$1"
}

# is NAME STATUS: whether a container has it.
is() {
	[ "$(field "$1" '{{.State.Status}}')" = "$2" ]
}

# states: the pod's state, and those of its containers by their names.
states() {
	podman pod inspect --format '{{.State}}' pod
	podman ps --all --quiet --filter pod=pod | xargs "$SHARED/podman" inspect --type container --format '{{.Name}} {{.State.Status}}' |
		sed 's/.*-infra/infra/' | sort
}

# namespaces NAME KIND...: those of a container in the guest, one a line.
namespaces() {
	podman exec "$1" sh -c 'cd /proc/self/ns && for kind; do readlink "$kind"; done' sh "${@:2}"
}
