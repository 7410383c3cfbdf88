#!/usr/bin/env bats
# Pods as CRI-O makes them, with its conmon, arguments, environment, files and order of events, in the kubelet's
# cgroups. CRI-O makes a pod's namespaces and network before any container. It unmounts a container's storage as soon as
# that has exited, and deletes the container later. The runtime is not told that a pod has ended. 30-kill-crio.bats
# tests what happens when a process is killed.

load helpers
load crio

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

	# Members are created at the same time.
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
	# The VM is in the sandbox's cgroup. A member's cgroup has only its shim.
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

	# An ephemeral container in the pid namespace of a.
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

	# A member is killed, and restarted as another container before the old one is deleted.
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
	# The kubelet deletes the containers later, in any order.
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
	# A third does not fit into the pod's announced size: the VM grows before it starts, and shrinks when it is deleted.
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
	# Its root may change the pod's network, and owns its files.
	inside b ip link set lo mtu 1400
	same "$(inside a cat /sys/class/net/lo/mtu)" 1400
	inside a touch /made
	same "$(stat -c %u "$T/run/$POD-a/userdata/rootfs/made")" 200000
}

# is_unshared PID: whether the process is in a user namespace of its own.
is_unshared() {
	[ "$(readlink "/proc/$1/ns/user")" != "$(readlink /proc/self/ns/user)" ]
}

# conmon-rs COMMAND...: runs the runtime as conmon-rs does, which passes global options twice.
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

@test "mixed mode: a hostNetwork pod is run by the fallback runtime, its containers one by one" {
	drop_infra
	printf 'fallback_runtime = "runc"\nlog_dir = "%s"\n' "$T/logs" >"$T/runch.toml"
	local name
	for name in a b; do
		crio container $name
		config '.linux.namespaces |= map(select(.type != "network"))'
		script 'trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done'
		as_crio --runtime-arg "--config=$T/runch.toml"
		created
		as_server start "$ID"
		same "$(readlink "/proc/$PID/ns/net")" "$(readlink /proc/self/ns/net)"
		same "$(readlink "/proc/$PID/ns/ipc")" "$(stat -L -c 'ipc:[%i]' "$T/pinned/ipcns/$POD")"
	done
	same "$(runch list --format json | jq -r '[.[] | "\(.status) \(.fallback)"] | unique[]')" "running $(command -v runc)"
	same "$(inside b cat /proc/sys/kernel/random/boot_id)" "$(</proc/sys/kernel/random/boot_id)"
	stop a
	exited a 0
	kill -KILL "$(of b && echo "$PID")"
	exited b 137
	unpinned
	as_server delete "$POD-a"
	as_server delete --force "$POD-b"
}
