#!/usr/bin/env bats
# Pods as CRI-O has them: its conmon, its arguments, environment, files and order of events, with the kubelet's
# cgroups around. CRI-O makes a pod's namespaces and network before any container; it unmounts a container's storage
# as soon as that has exited, and deletes it later; nobody tells the runtime that a pod has ended.

load helpers
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

# pod_up: the pod's cgroup, namespaces and network, as they are before its first container. With a user namespace of
# its own when $USERNS has its first id on the host.
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

# is_cgroup DIRECTORY: whether a hierarchy is mounted there that containers are put into.
is_cgroup() {
	[ -w "$1/cgroup.procs" ] && [[ $(stat -f -c %T "$1") == cgroup* ]]
}

in_pod_network() {
	nsenter --net="$T/pinned/netns/$POD" "$@"
}

# drop_infra [JQ-FILTER]: CRI-O does not make the infra container, but writes its spec.
drop_infra() {
	jq --arg pod "$POD" '.annotations = {
		"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.SandboxID": $pod, "spoofed.crio.io": "true"
	} | '"${1:-.}" <"$TESTS/config.json" >"$SANDBOX_SPEC"
}

# crio TYPE NAME: a container of the pod, whose storage is mounted, with its bundle in $B and its id in $ID. Without a
# name it is the infra container.
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

# of NAME: the container that was made under this name.
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

# as_server WORD...: a command that CRI-O calls itself.
as_server() {
	env -i CRI_O_EXTERNAL=1 PATH="$PATH" XDG_RUNTIME_DIR="$T" timeout --foreground 60 "$RUNCH" --root "$ROOT" "$@" 3>&-
}

# exited NAME STATUS: the container exits with this status, by conmon's files, and CRI-O unmounts its storage at once.
exited() {
	of "$1"
	eventually 30 test -s "$W/exits/$ID"
	same "$(<"$W/exits/$ID")" "$2"
	umount --lazy "$T/storage/$ID"
	same "$(as_server state "$ID" | jq -r .status)" stopped
}

# stop NAME: CRI-O's stop: TERM, a grace period, then KILL until the pid is gone.
stop() {
	of "$1"
	as_server kill "$ID" 15
	if ! eventually "${2:-5}" dead "$PID"; then
		as_server kill "$ID" KILL
		eventually 5 dead "$PID"
	fi
}

# unpinned: CRI-O removes the pod's namespaces.
unpinned() {
	local kind
	for kind in net ipc uts; do
		umount --lazy "$T/pinned/${kind}ns/$POD"
		rm "$T/pinned/${kind}ns/$POD"
	done
}

# pod_removed: what is left of the pod's, at the end of a test, however it ended.
pod_removed() {
	local id path
	[ ! -d "$ROOT" ] || for id in $(runch list --quiet); do
		runch delete --force "$id"
	done
	for path in "$T"/storage/* "$T/pinned"; do
		! mountpoint -q "$path" || umount --recursive --lazy "$path"
	done
	find /sys/fs/cgroup -depth -type d -path "*/runch-test/$POD" -exec rmdir {} +
}

# --- what is looked at ---

inside() {
	local name=$1
	shift
	as_server exec "$POD${name:+-$name}" "$@"
}

holder() {
	jq .holder.pid "$ROOT/@$POD/sandbox.json"
}

# probe NAME [WORD...]: an exec probe: conmon's exec, whose answer is in its pipe.
probe() {
	of "$1"
	crio_exec "${@:2}"
}

# bats test_tags=contract:27,contract:29,contract:30
@test "without the infra container: init containers, members side by side, probes, execs, update, restart, and the pod's end" {
	drop_infra '.linux.sysctl = {"net.core.somaxconn": "77"} |
		.annotations["pod-linux-resources.crio.io"] = "{\"memory_limit_in_bytes\":268435456}"'
	# Init containers run one after the other; the pod goes on between them.
	local name
	for name in init1 init2; do
		crio container $name
		script "cat /proc/sys/kernel/random/boot_id >/volume/$name; exit 0"
		up
		exited $name 0
	done
	same "$(<"$T/volume/init2")" "$(<"$T/volume/init1")"
	# The VM has the pod's size, not the default one.
	same "$(jq -c .boot "$ROOT/@$POD/sandbox.json")" '{"cpus":1,"memoryMiB":384}'

	# Members are created at one time.
	for name in a b; do
		crio container $name
		script 'trap "echo bye; exit 0" TERM; echo ready; while :; do sleep 0.1; done'
		as_crio
	done
	for name in a b; do
		of $name
		created
		as_server start "$ID"
	done
	same "$(inside a cat /proc/sys/kernel/random/boot_id)" "$(<"$T/volume/init1")"
	same "$(inside b cat /proc/sys/net/core/somaxconn)" 77
	same "$(inside a ip -o -4 address show eth0 | awk '{ print $4 }')" 10.88.7.2/24
	same "$(inside b hostname)" pod
	# The VM is in the sandbox's cgroup; a member's has its shim alone.
	local holder
	holder=$(holder)
	PID=$holder
	[[ $(host_cgroup memory) == */runch-test/$POD/crio-$POD ]]
	[ "$(wc -l <"$(host_cgroup memory)/cgroup.procs")" -ge 3 ]
	of a
	same "$(cat "$(host_cgroup memory)/cgroup.procs")" "$PID"

	# Probes, by conmon; one that takes longer than its timeout is ended.
	process sh -c 'echo healthy; exit 3' >"$W/process.json"
	probe a
	same "$(message exec 1 .exit_code)" 3
	says "stdout F healthy" "$W/exec.log"
	process sleep 100 >"$W/process.json"
	probe a -T 1
	refusal exec exit_code 'timed out'
	alive "$PID"

	# kubectl exec: the runtime in the foreground, with and without a terminal.
	process cat >"$W/process.json"
	same "$(echo through | as_server exec --process "$W/process.json" "$ID")" through
	process sh -c 'tty; stty size; exit 4' | jq '.terminal = true | .consoleSize = {height: 30, width: 90}' >"$W/process.json"
	mkfifo "$T/orders"
	exec 9<>"$T/orders"
	helper "$TOOLS/terminal" run --out "$T/screen" --report "$T/report" -- "$RUNCH" --root "$ROOT" exec --process "$W/process.json" "$ID" <"$T/orders" 9>&-
	eventually 10 says /dev/pts/ "$T/screen"
	wait "$helper" || true
	exec 9>&-

	# An ephemeral container that has a's processes before it.
	mkdir "$T/pinned/pidns"
	touch "$T/pinned/pidns/$POD"
	mount --bind "/proc/$PID/ns/pid" "$T/pinned/pidns/$POD"
	crio container debug
	config --arg path "$T/pinned/pidns/$POD" '.linux.namespaces |= map(select(.type != "pid")) + [{type: "pid", path: $path}]'
	script 'ps -o pid,args >/volume/ps'
	up
	exited debug 0
	grep -q '^ *1 sh -c trap' "$T/volume/ps"
	umount --lazy "$T/pinned/pidns/$POD"

	# In-place resize, from stdin.
	of a
	echo '{"memory": {"limit": 167772160}, "cpu": {"shares": 512}}' | as_server update --resources - "$ID"
	same "$(inside a cat /sys/fs/cgroup/memory.max)" 167772160
	same "$(host_memory)" $((167772160 + (128 + 256) * 1048576))

	# One is lost, and comes again as another container before the old one is deleted.
	of b
	kill -KILL "$PID"
	exited b 137
	crio container b2
	args sleep 1000
	up
	same "$(inside b2 cat /proc/sys/kernel/random/boot_id)" "$(<"$T/volume/init1")"
	as_server delete --force "$POD-b"

	# The pod's end: the network goes first, then the members, then the namespaces. The VM is gone at once.
	in_pod_network ip link delete eth0
	stop a
	exited a 0
	same "$(tail -n 1 "$W/ctr.log" | awk '{ print $4 }')" bye
	stop b2 1
	exited b2 137
	alive "$holder"
	unpinned
	eventually 5 dead "$holder"
	# The kubelet deletes what is left later, in any order.
	for name in init2 a b2 debug init1; do
		as_server delete --force "$POD-$name"
	done
	same "$(runch list --quiet)" ""
	[ ! -e "$ROOT/@$POD" ]
}

# bats test_tags=contract:22,contract:25,contract:30
@test "with the infra container: it holds the VM, in its cgroup; a pod that is stopped is stopped, member by member" {
	crio sandbox
	args workload signals
	config '.annotations["pod-linux-resources.crio.io"] = "{\"memory_limit_in_bytes\":268435456,\"cpu_quota\":50000,\"cpu_period\":100000}" |
		.linux.resources.cpu.shares = 2'
	up
	local infra=$PID name
	same "$(jq -c .boot "$ROOT/@$POD/sandbox.json")" '{"cpus":1,"memoryMiB":384}'
	for name in a b; do
		crio container $name
		config '.linux.resources.memory.limit = 134217728'
		args sleep 1000
		up
	done
	same "$(jq -c .now "$ROOT/@$POD/sandbox.json")" '{"cpus":1,"memoryMiB":384}'
	# A third has no room in what the pod was said to have: the VM grows before it starts, and shrinks when it goes.
	crio container c
	config '.linux.resources.memory.limit = 134217728'
	args sleep 1000
	up
	same "$(jq -c .now "$ROOT/@$POD/sandbox.json")" '{"cpus":1,"memoryMiB":512}'
	[ "$(inside c awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)" -gt $((400 * 1024)) ]
	PID=$infra
	same "$(host_memory)" $(((3 * 128 + 128 + 256) * 1048576))
	# The weight of three containers: 3 * 1024 shares on cgroup v1, more than 100 on v2.
	[ "$(host_limit cpu cpu.shares cpu.weight)" -gt 100 ]
	[ ! -e "$(host_cgroup cpu)/cpu.shares" ] || same "$(host_limit cpu cpu.shares cpu.weight)" 3074
	stop c 1
	exited c 137
	as_server delete --force "$POD-c"
	same "$(jq -c .now "$ROOT/@$POD/sandbox.json")" '{"cpus":1,"memoryMiB":384}'

	in_pod_network ip link delete eth0
	stop a 1
	exited a 137
	stop b 1
	exited b 137
	of ''
	same "$(as_server state "$ID" | jq -r .status)" running
	stop '' 1
	exited '' 137
	unpinned
	for name in b '' a; do
		as_server delete --force "$POD${name:+-$name}"
	done
	[ ! -e "$ROOT/@$POD" ]
}

# bats test_tags=contract:27
@test "hostUsers: false: members have the pod's user namespace, by its path and its mappings" {
	drop_infra
	helper unshare --user sleep 1000
	eventually 5 is_unshared "$helper"
	echo "0 200000 65536" | tee "/proc/$helper/uid_map" >"/proc/$helper/gid_map"
	touch "$T/pinned/userns"
	mount --bind "/proc/$helper/ns/user" "$T/pinned/userns"
	local name
	for name in a b; do
		crio container $name
		chown -R 200000:200000 "$B/rootfs"
		config --arg path "$T/pinned/userns" '
			.linux.uidMappings = [{containerID: 0, hostID: 200000, size: 65536}] | .linux.gidMappings = .linux.uidMappings |
			.linux.namespaces += [{type: "user", path: $path}] |
			.process.capabilities |= map_values(. + ["CAP_NET_ADMIN"])'
		args sleep 1000
		up
	done
	same "$(inside a awk '{ print $1, $2, $3 }' /proc/self/uid_map)" "0 200000 65536"
	same "$(inside a readlink /proc/self/ns/user)" "$(inside b readlink /proc/self/ns/user)"
	same "$(inside a readlink /proc/self/ns/net)" "$(inside b readlink /proc/self/ns/net)"
	# It is root of its network and of its files, and nobody else's.
	inside b ip link set lo mtu 1400
	same "$(inside a cat /sys/class/net/lo/mtu)" 1400
	inside a touch /made
	same "$(stat -c %u "$T/run/$POD-a/userdata/rootfs/made")" 200000
}

# is_unshared PID: the process is in a user namespace of its own.
is_unshared() {
	[ "$(readlink "/proc/$1/ns/user")" != "$(readlink /proc/self/ns/user)" ]
}

# bats test_tags=contract:6
@test "whatever is lost of a pod, conmon tells CRI-O of all members within 2 s, and the pod can be removed" {
	local victim name pid
	for victim in holder vmm virtiofsd; do
		drop_infra
		for name in a b; do
			crio container "$name-$victim"
			args sleep 1000
			up
		done
		case $victim in
		holder) pid=$(holder) ;;
		vmm) pid=$(pgrep -P "$(holder)" -f "${VMM_PROGRAM##*/}") ;;
		*) pid=$(pgrep -P "$(holder)" -x virtiofsd) ;;
		esac
		kill -KILL $pid
		for name in a b; do
			of "$name-$victim"
			eventually 2 test -s "$W/exits/$ID"
			exited "$name-$victim" 137
		done
		for name in b a; do
			as_server delete --force "$POD-$name-$victim"
		done
		[ ! -e "$ROOT/@$POD" ]
	done
}

# conmon-rs COMMAND...: the runtime as conmon-rs calls it, which gives its global options twice.
conmon-rs() {
	timeout --foreground 60 "$RUNCH" "--root=$ROOT" "--root=$ROOT" "$@" 3>&-
}

@test "conmon-rs: one monitor for a pod, whose calls are written in another way" {
	local name
	for name in '' a; do
		crio "$([ -n "$name" ] && echo container || echo sandbox)" $name
		args sleep 1000
		conmon-rs create --bundle "$B" --pid-file "$B/pid" "$ID" </dev/null >"$W/out" 2>&1
		same "$(parent "$(<"$B/pid")")" "$REAPER_PID"
		as_server start "$ID"
	done
	conmon-rs exec -d "--pid-file=$W/exec.pid" "$ID" sh -c 'echo in the container; exit 6' </dev/null >"$W/exec.out" 2>&1
	same "$(exit_status "$(<"$W/exec.pid")" 10)" 6
	same "$(<"$W/exec.out")" "in the container"
	mkfifo "$T/orders"
	exec 9<>"$T/orders"
	helper "$TOOLS/terminal" receive --socket "$W/console" --out "$T/screen" --report "$T/report" <"$T/orders" 9>&-
	eventually 5 test -S "$W/console"
	conmon-rs exec -d "--console-socket=$W/console" --tty "--pid-file=$W/exec.pid" "$ID" sh -c 'tty; exit 8' </dev/null >"$W/exec.out" 2>&1
	echo accept >&9
	same "$(exit_status "$(<"$W/exec.pid")" 10)" 8
	eventually 5 says /dev/pts/ "$T/screen"
	exec 9>&-
}
