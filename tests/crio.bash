#!/bin/bash
# A pod as CRI-O makes it, with its conmon, arguments, environment, files and order of events, in the kubelet's cgroups.

load conmon

setup() {
	begin
	POD=$ID
	needs_vm
	pod_up
}

teardown() {
	[ -n "${BATS_TEST_COMPLETED:-}" ] || for W in "$T"/run/*/conmon; do
		[ ! -e "$W/create.sync" ] || cat "$W/create.sync"
		end_conmon
	done
	[ -z "${POD:-}" ] || pod_removed
	finish
}

# --- what CRI-O and the kubelet do around a pod ---

# pod_up: makes the pod's cgroup, namespaces and network, as CRI-O and the kubelet do before the first container.
pod_up() {
	local kind flags=() hierarchy
	for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
		is_cgroup "$hierarchy" || continue
		mkdir -p "$hierarchy/runch-test/$POD"
		[ "$hierarchy" != /sys/fs/cgroup ] || break # cgroup v2
	done
	mkdir "$T/pinned"
	mount --bind "$T/pinned" "$T/pinned"
	mount --make-private "$T/pinned"
	for kind in net ipc uts; do
		mkdir "$T/pinned/${kind}ns"
		touch "$T/pinned/${kind}ns/$POD"
		flags+=("--$kind=$T/pinned/${kind}ns/$POD")
	done
	unshare "${flags[@]}" true
	in_pod_network ip link add eth0 type veth peer name peer
	in_pod_network ip link set peer up
	in_pod_network ip address add 10.88.7.2/24 dev eth0
	in_pod_network ip link set eth0 up
	SANDBOX_SPEC=$T/run/$POD/userdata/config.json
	mkdir -p "${SANDBOX_SPEC%/*}" "$T/volume"
}

# is_cgroup DIRECTORY: whether a cgroup hierarchy is mounted there in which cgroups can be made.
is_cgroup() {
	[ -w "$1/cgroup.procs" ] && [[ $(stat -f -c %T "$1") == cgroup* ]]
}

in_pod_network() {
	nsenter --net="$T/pinned/netns/$POD" "$@"
}

# drop_infra [JQ-FILTER]: with this setting CRI-O makes no infra container, but still writes its spec.
drop_infra() {
	jq --arg pod "$POD" '.annotations = {
		"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.SandboxID": $pod, "spoofed.crio.io": "true"
	} | '"${1:-.}" <"$TESTS/config.json" >"$SANDBOX_SPEC"
}

# crio TYPE [NAME]: makes a container of the pod, with its storage mounted, its bundle in $B and its id in $ID. Without
# a name it is the infra container.
crio() {
	ID=$POD${2:+-$2} B=$T/run/$POD${2:+-$2}/userdata
	bundle
	conmon_dir "$T/run/$ID/conmon"
	mkdir -p "$T/storage/$ID"
	mount --bind "$B/rootfs" "$T/storage/$ID"
	mount --make-private "$T/storage/$ID"
	config --arg type "$1" --arg id "$ID" --arg name "${2:-POD}" --arg pod "$POD" --arg t "$T" '
		.root.path = "\($t)/storage/\($id)" | .hostname = "pod" |
		.linux.cgroupsPath = "/runch-test/\($pod)/crio-\($id)" |
		.annotations = {
			"io.kubernetes.cri-o.ContainerType": $type, "io.kubernetes.cri-o.SandboxID": $pod, "io.kubernetes.cri-o.ContainerID": $id,
			"io.kubernetes.cri-o.Name": $name, "io.kubernetes.cri-o.MountPoint": .root.path, "io.container.manager": "cri-o"
		} |
		.linux.namespaces |= map(select(.type | IN("network", "ipc", "uts") | not)) + [
			{type: "network", path: "\($t)/pinned/netns/\($pod)"}, {type: "ipc", path: "\($t)/pinned/ipcns/\($pod)"},
			{type: "uts", path: "\($t)/pinned/utsns/\($pod)"}, {type: "cgroup"}
		] |
		.mounts += [
			{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "relatime", "ro"]},
			{destination: "/volume", type: "bind", source: "\($t)/volume", options: ["rbind", "rprivate", "rw"]}
		]'
	mkdir "$B/rootfs/volume"
}

# of NAME: sets ID, B, W, PID and CONMON to those of this container.
of() {
	ID=$POD${1:+-$1} B=$T/run/$POD${1:+-$1}/userdata W=$T/run/$POD${1:+-$1}/conmon
	[ ! -s "$B/pid" ] || PID=$(<"$B/pid")
	CONMON=$(<"$W/conmon.pid")
}

# up: conmon creates the container, and CRI-O starts it.
up() {
	as_crio
	created
	as_server start "$ID"
}

# as_server WORD...: runs the runtime as CRI-O itself does, without conmon.
as_server() {
	env -i CRI_O_EXTERNAL=1 PATH="$PATH" XDG_RUNTIME_DIR="$T" timeout --foreground 60 "$RUNCH" --root "$ROOT" "$@" 3>&-
}

# exited NAME STATUS: waits for conmon's exit file, which has to have this status, and unmounts the container's storage
# at once, as CRI-O does.
exited() {
	of "$1"
	eventually 30 test -s "$W/exits/$ID"
	same "$(<"$W/exits/$ID")" "$2"
	umount --lazy "$T/storage/$ID"
	same "$(as_server state "$ID" | jq -r .status)" stopped
}

# stop NAME [SECONDS]: stops a container as CRI-O does: TERM, a grace period, then KILL.
stop() {
	of "$1"
	as_server kill "$ID" 15
	if ! eventually "${2:-5}" dead "$PID"; then
		as_server kill "$ID" KILL
		eventually 5 dead "$PID"
	fi
}

# unpinned: removes the pod's namespaces, as CRI-O does.
unpinned() {
	local kind
	for kind in net ipc uts; do
		umount --lazy "$T/pinned/${kind}ns/$POD"
		rm "$T/pinned/${kind}ns/$POD"
	done
}

# pod_removed: removes what is left of the pod at the end of a test, passed or not.
pod_removed() {
	local id path
	[ ! -d "$ROOT" ] || for id in $(runch list --quiet); do
		runch delete --force "$id"
	done
	for path in "$T"/storage/* "$T/pinned"; do
		! mountpoint -q "$path" || umount --recursive --lazy "$path"
	done
	find /sys/fs/cgroup -ignore_readdir_race -depth -type d -path "*/runch-test/$POD" -exec rmdir {} +
}

# --- checks ---

inside() {
	local name=$1
	shift
	as_server exec "$POD${name:+-$name}" "$@"
}

holder() {
	jq .holder.pid "$ROOT/@$POD/sandbox.json"
}

# probe NAME [WORD...]: runs an exec probe by conmon, whose answer is the message "exec".
probe() {
	of "$1"
	crio_exec "${@:2}"
}
