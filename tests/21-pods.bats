#!/usr/bin/env bats
# Pods: several containers in one VM. The caller's annotations, or the namespaces that a container joins, tell which pod
# it belongs to. Members come and go in any order; the VM ends with the pod.

load helpers

setup() {
	begin
	POD=$ID
}

teardown() {
	local id
	if [ -e "$T/pinned" ]; then
		for id in $(runch list --quiet); do
			runch delete --force "$id"
		done
		umount --recursive "$T/pinned"
	fi
	! mountpoint -q "$T/shm" || umount "$T/shm"
	finish
}

# --- the callers' containers: each function makes a bundle for the container $POD or $POD-NAME, and sets ID and B ---

# container [NAME]: makes the bundle of a member; without a name, of the pod's first container.
container() {
	ID=$POD${1:+-$1} B=$T/$POD${1:+-$1}.bundle
	bundle
	args sleep 100000
}

# annotate KEY VALUE...: adds annotations.
annotate() {
	while [ $# -gt 0 ]; do
		config --arg key "$1" --arg value "$2" '.annotations[$key] = $value'
		shift 2
	done
}

# join KIND PATH...: lets the container join these namespaces.
join() {
	while [ $# -gt 0 ]; do
		config --arg kind "$1" --arg path "$2" '.linux.namespaces |= map(select(.type != $kind)) + [{type: $kind, path: $path}]'
		shift 2
	done
}

# pinned: makes the pod's namespaces as CRI-O's pinns does, bind-mounted on files and without a process, and joins them.
pinned() {
	mkdir -p "$T/pinned"
	[ -e "$T/pinned/net" ] || {
		mount --bind "$T/pinned" "$T/pinned"
		mount --make-private "$T/pinned"
		touch "$T"/pinned/{net,ipc,uts}
		unshare --net="$T/pinned/net" --ipc="$T/pinned/ipc" --uts="$T/pinned/uts" true
	}
	join network "$T/pinned/net" ipc "$T/pinned/ipc" uts "$T/pinned/uts"
}

# crio TYPE [NAME]: makes the bundle of a container as CRI-O does.
crio() {
	container "${2:-}"
	annotate io.kubernetes.cri-o.ContainerType "$1" io.kubernetes.cri-o.SandboxID "$POD"
	config '.hostname = "pod"'
	pinned
}

# containerd TYPE [NAME]: makes the bundle of a container as containerd does. A member joins the namespaces of the first
# container's process.
containerd() {
	container "${2:-}"
	annotate io.kubernetes.cri.container-type "$1" io.kubernetes.cri.sandbox-id "$POD"
	[ "$1" = sandbox ] || join network "/proc/$PAUSE/ns/net" ipc "/proc/$PAUSE/ns/ipc" uts "/proc/$PAUSE/ns/uts"
}

# --- checks ---

# in_container NAME COMMAND...: runs a command in a container of the pod.
in_container() {
	runch exec "$POD${1:+-$1}" "${@:2}"
}

# boot NAME: prints the boot id of a container's kernel, which tells VMs apart.
boot() {
	in_container "$1" cat /proc/sys/kernel/random/boot_id
}

# namespace NAME KIND: prints a namespace of a container, in the guest.
namespace() {
	in_container "$1" readlink "/proc/self/ns/$2"
}

# vmms: prints how many VMM processes this test has.
vmms() {
	local pid count=0
	for pid in $(pgrep -f "${VMM_PROGRAM##*/}" || true); do
		! grep -qF "$POD" "/proc/$pid/cmdline" 2>/dev/null || count=$((count + 1))
	done
	echo $count
}

# pid_of NAME: prints the pid of a container of the pod, 0 if it has stopped.
pid_of() {
	runch state "$POD${1:+-$1}" | jq .pid
}

stopped() {
	[ "$(pid_of "$1")" = 0 ]
}

# no_sandbox: whether the pod's sandbox is gone.
no_sandbox() {
	[ ! -e "$ROOT/@$POD" ]
}

# bats test_tags=contract:29,contract:30
@test "CRI-O with its infra container: members share the pod's network, ipc and names, and have their own pids and files" {
	needs_vm
	crio sandbox
	launch
	local infra=$PID kind
	crio container a
	launch
	local a=$PID
	crio container b
	launch
	local b=$PID
	same "$(vmms)" 1
	same "$(boot a)" "$(boot '')"
	same "$(boot b)" "$(boot a)"
	for kind in net ipc uts; do
		same "$(namespace a $kind)" "$(namespace '' $kind)"
		same "$(namespace b $kind)" "$(namespace a $kind)"
	done
	for kind in pid mnt; do
		[ "$(namespace a $kind)" != "$(namespace b $kind)" ]
	done
	same "$(in_container a hostname)" pod
	same "$(in_container a ps -o pid,args | awk '$1 == 1 { print $2 }')" sleep
	# On the host each member's shim is in a pid namespace of its own, below that of the holder, and is a child of its
	# caller.
	[ "$(readlink "/proc/$a/ns/pid")" != "$(readlink "/proc/$b/ns/pid")" ]
	same "$(awk '$1 == "NSpid:" { print NF - 1, $NF }' "/proc/$a/status")" "3 1"
	same "$(readlink "/proc/$a/ns/net")" "$(readlink "/proc/$infra/ns/net")"
	same "$(parent "$a")" "$REAPER_PID"
	same "$(parent "$b")" "$REAPER_PID"
	# When one member ends, the others go on.
	runch kill "$POD-a" KILL
	same "$(exit_status "$a" 10)" 137
	alive "$b"
	alive "$infra"
	in_container b true
}

# bats test_tags=contract:29,contract:30
@test "containerd: members join the namespaces of the sandbox's process, its pids too when they are to" {
	needs_vm
	containerd sandbox
	launch
	PAUSE=$PID
	containerd container a
	join pid "/proc/$PAUSE/ns/pid"
	launch
	containerd container b
	launch
	same "$(vmms)" 1
	same "$(boot a)" "$(boot b)"
	same "$(namespace a pid)" "$(namespace '' pid)"
	[ "$(namespace b pid)" != "$(namespace a pid)" ]
	[ "$(in_container a ps -o args | grep -c '^sleep')" = 2 ]
	[ "$(in_container b ps -o args | grep -c '^sleep')" = 1 ]
	# Killing a member kills its own processes only.
	runch kill "$POD-a" KILL
	eventually 10 stopped a
	[ "$(in_container '' ps -o args | grep -c '^sleep')" = 1 ]
	# When the first container ends, all members end.
	local b
	b=$(pid_of b)
	runch kill "$POD" KILL
	same "$(exit_status "$PAUSE" 10)" 137
	same "$(exit_status "$b" 10)" 137
}

# own_time: gives the container a time namespace without offsets, as docker 29 does.
own_time() {
	config '.linux.namespaces += [{type: "time"}]'
}

# bats test_tags=contract:29
@test "a container that joins the network of another by its path is in that one's VM" {
	needs_vm
	container
	own_time
	launch
	local first=$PID
	container b
	own_time
	join network "/proc/$first/ns/net"
	launch
	same "$(vmms)" 1
	same "$(boot b)" "$(boot '')"
	same "$(namespace b net)" "$(namespace '' net)"
	local kind
	for kind in ipc time; do
		[ "$(namespace b $kind)" != "$(namespace '' $kind)" ]
	done
	background listener "$POD" sh -c 'nc -l -p 7 >/heard'
	eventually 10 in_container b sh -c 'echo hello | nc -w 1 127.0.0.1 7'
	eventually 5 in_container '' grep -q hello /heard
}

# bats test_tags=contract:29
@test "podman: members name the infra container, which names nothing, and join its namespaces" {
	needs_vm
	container
	launch
	PAUSE=$PID
	container a
	annotate io.kubernetes.cri-o.SandboxID "$POD"
	join network "/proc/$PAUSE/ns/net" ipc "/proc/$PAUSE/ns/ipc" uts "/proc/$PAUSE/ns/uts"
	launch
	same "$(vmms)" 1
	same "$(boot a)" "$(boot '')"
	same "$(namespace a net)" "$(namespace '' net)"
	same "$(in_container a hostname)" "$(in_container '' hostname)"
	runch delete --force "$POD-a"
	runch delete --force "$POD"
	no_sandbox
}

# bats test_tags=lab,contract:29,contract:30
@test "a pod without a container of its own: its first member starts the VM, its last ends it" {
	needs_vm
	crio container a
	launch
	local a=$PID holder
	crio container b
	launch
	local b=$PID booted
	same "$(vmms)" 1
	booted=$(boot b)
	same "$(boot a)" "$booted"
	for kind in net ipc uts; do
		same "$(namespace a $kind)" "$(namespace b $kind)"
	done
	# The holder is in a cgroup of the pod's own, a sibling of the members' cgroups.
	holder=$(jq .holder.pid "$ROOT/@$POD/sandbox.json")
	grep -q "/runch-test/$POD\$" "/proc/$holder/cgroup"
	grep -q "/runch-test/$POD-a\$" "/proc/$a/cgroup"
	same "$(awk '$1 == "NSpid:" { print NF - 1, $NF }' "/proc/$a/status")" "3 1"
	# An init container ends before the others, and the VM goes on, even while no member runs.
	runch kill "$POD-a" KILL
	same "$(exit_status "$a" 10)" 137
	runch delete "$POD-a"
	in_container b true
	runch kill "$POD-b" KILL
	same "$(exit_status "$b" 10)" 137
	alive "$holder"
	# The next member joins the same VM.
	crio container c
	launch
	same "$(boot c)" "$booted"
	runch delete "$POD-b"
	alive "$holder"
	runch delete --force "$POD-c"
	eventually 5 dead "$holder"
	no_sandbox
	same "$(vmms)" 0
}

# bats test_tags=contract:30
@test "members are created, deleted and created again in any order and side by side, and their files can be unmounted" {
	needs_vm
	containerd sandbox
	launch
	PAUSE=$PID
	local name round pids=()
	for name in a b c; do
		containerd container $name
		mkdir "$B/layers"
		mv "$B/rootfs" "$B/layers/rootfs"
		mkdir "$B/rootfs"
		mount --bind "$B/layers/rootfs" "$B/rootfs"
	done
	for round in 1 2; do
		pids=()
		for name in a b c; do
			ID=$POD-$name B=$T/$POD-$name.bundle
			launch &
			pids+=($!)
		done
		for pid in "${pids[@]}"; do
			wait "$pid"
		done
		for name in c a b; do
			in_container $name sh -c "echo $name $round >/name"
			same "$(in_container $name cat /name)" "$name $round"
		done
		for name in b c a; do
			runch delete --force "$POD-$name"
			umount "$T/$POD-$name.bundle/rootfs" # not lazy: fails with EBUSY if it is still used
			same "$(<"$T/$POD-$name.bundle/layers/rootfs/name")" "$name $round"
			mount --bind "$T/$POD-$name.bundle/layers/rootfs" "$T/$POD-$name.bundle/rootfs"
		done
	done
	for name in a b c; do
		umount "$T/$POD-$name.bundle/rootfs"
	done
	in_container '' true
	same "$(vmms)" 1
}

@test "a member whose create failed late leaves nothing in the guest, and its id is free" {
	needs_vm
	containerd sandbox
	launch
	PAUSE=$PID
	containerd container a
	# The guest already has the container when the pid-file is written.
	try runch create --bundle "$B" --pid-file "$T/no/such/directory/pid" "$ID"
	[ "$status" -ne 0 ]
	gone
	launch
	background one "$ID" sleep 100000
	try runch exec --detach --pid-file "$T/no/such/directory/pid" "$ID" sleep 4711
	[ "$status" -ne 0 ]
	no_exec() { ! in_container a ps -o args | grep -q 4711; }
	eventually 5 no_exec
}

# bats test_tags=contract:30
@test "a volume of two members is one: what either writes, and what the host changes, both see" {
	needs_vm
	mkdir "$T/volume"
	containerd sandbox
	launch
	PAUSE=$PID
	local name
	for name in a b; do
		containerd container $name
		config --arg source "$T/volume" '.mounts += [{destination: "/volume", type: "bind", source: $source, options: ["rbind"]}]'
		mkdir "$B/rootfs/volume"
		launch
	done
	in_container a sh -c 'echo from a >/volume/a'
	same "$(in_container b cat /volume/a)" "from a"
	in_container b sh -c 'echo from b >/volume/a'
	same "$(in_container a cat /volume/a)" "from b"
	same "$(<"$T/volume/a")" "from b"
	echo 'from the host' >"$T/volume/host"
	eventually 5 in_container a grep -q 'from the host' /volume/host
	eventually 5 in_container b grep -q 'from the host' /volume/host
	# Members see each other's changes at once: they share one file system, and so its caches.
	same "$(in_container a stat -c %d /volume)" "$(in_container b stat -c %d /volume)"
	in_container b sh -c 'test -e /volume/a && until test -e /volume/gone; do :; done; ! test -e /volume/a' &
	local watches=$!
	in_container a sh -c 'rm /volume/a && touch /volume/gone'
	wait $watches
	# A read-only member has the same file system, which stays when the first member has gone.
	containerd container c
	config --arg source "$T/volume" '.mounts += [{destination: "/volume", type: "bind", source: $source, options: ["rbind", "ro"]}]'
	mkdir "$B/rootfs/volume"
	launch
	runch delete --force "$POD-a"
	same "$(in_container c stat -c %d /volume)" "$(in_container b stat -c %d /volume)"
	in_container b touch /volume/last
	in_container c test -e /volume/last
	try in_container c touch /volume/not
	[[ $output$stderr == *"Read-only file system"* ]]
}

# bats test_tags=contract:30
@test "the /dev/shm that a caller mounts for a pod is one tmpfs in the guest, of its size, and lasts as long as the pod" {
	needs_vm
	mkdir "$T/shm"
	mount -t tmpfs -o size=3m,mode=1777,nosuid,nodev,noexec shm "$T/shm"
	local name
	for name in a b; do
		crio container $name
		config --arg source "$T/shm" '(.mounts[] | select(.destination == "/dev/shm")) |=
			{destination: "/dev/shm", type: "bind", source: $source, options: ["rw", "bind"]}'
		launch
	done
	same "$(in_container a sh -c "awk '\$2 == \"/dev/shm\" { print \$3 }' /proc/mounts")" tmpfs
	same "$(in_container a df -k /dev/shm | awk 'END { print $2 }')" 3072
	in_container a sh -c 'echo from a >/dev/shm/file'
	same "$(in_container b cat /dev/shm/file)" "from a"
	try in_container b dd if=/dev/zero of=/dev/shm/full bs=1M count=4
	[ "$status" -ne 0 ]
	# The host's tmpfs stays empty, and so does the container's view on the host.
	same "$(ls "$T/shm")" ""
	same "$(nsenter --target "$(pid_of a)" --mount /bin/busybox ls /dev/shm)" ""
	runch delete --force "$POD-a"
	runch kill "$POD-b" KILL
	eventually 10 stopped b
	crio container c
	config --arg source "$T/shm" '(.mounts[] | select(.destination == "/dev/shm")) |=
		{destination: "/dev/shm", type: "bind", source: $source, options: ["rw", "bind"]}'
	launch
	same "$(in_container c cat /dev/shm/file)" "from a"
	runch delete --force "$POD-b"
	runch delete --force "$POD-c"
	umount "$T/shm"
	no_sandbox
}

# bats test_tags=contract:30
@test "a pod that is deleted with members that live kills them, and they can be deleted after it" {
	needs_vm
	crio sandbox
	launch
	crio container a
	launch
	local a=$PID
	crio container b
	create
	local b=$PID
	runch delete --force "$POD"
	same "$(exit_status "$a" 10)" 137
	same "$(exit_status "$b" 10)" 137
	no_sandbox
	stopped a
	runch delete "$POD-a"
	runch delete "$POD-b"
	same "$(vmms)" 0
}

# bats test_tags=contract:6
@test "whatever holds the VM is killed: all members have ended with 137 within 2 s" {
	needs_vm
	crio container a
	launch
	local a=$PID
	crio container b
	launch
	local b=$PID exec
	background one "$POD-b" sleep 100000
	exec=$EXEC
	kill -KILL "$(jq .holder.pid "$ROOT/@$POD/sandbox.json")"
	same "$(exit_status "$a" 2)" 137
	same "$(exit_status "$b" 2)" 137
	same "$(exit_status "$exec" 2)" 137
	stopped a
	runch delete "$POD-a"
	# The pod has lost its VM. The next member gets a new one; the stopped member can still be deleted.
	crio container c
	launch
	in_container c true
	runch delete "$POD-b"
	in_container c true
}

@test "kill -9 of a member's pid ends its own processes in the guest, and its execs" {
	needs_vm
	containerd sandbox
	launch
	PAUSE=$PID
	containerd container a
	join pid "/proc/$PAUSE/ns/pid"
	launch
	local a=$PID
	background one "$POD-a" sleep 100000
	kill -KILL "$a"
	same "$(exit_status "$EXEC" 5)" 137
	only_the_first() { [ "$(in_container '' ps -o args | grep -c '^sleep')" = 1 ]; }
	eventually 10 only_the_first
	alive "$PAUSE"
}

# kills_of DIRECTORY: prints how many processes in the host's cgroup the OOM killer has killed.
kills_of() {
	sed -n 's/^oom_kill //p' "$1"/memory.events "$1"/memory.oom_control 2>/dev/null || true
}

# bats test_tags=contract:32
@test "what a member is killed for is told for it alone: memory" {
	needs_vm
	containerd sandbox
	launch
	PAUSE=$PID
	containerd container a
	config '.linux.resources.memory.limit = 33554432'
	# dd takes all memory in one read. If it grew more slowly, the kernel would reclaim and read the program's own file
	# again and again, at times for ten seconds.
	script 'for i in 1 2; do dd if=/dev/zero of=/dev/null bs=200M count=1; done; read -r; exit 5'
	mkfifo "$T/a.in"
	exec 8<>"$T/a.in"
	STDIN=$T/a.in create
	local a=$PID a_memory
	a_memory=$(host_cgroup memory)
	containerd container b
	launch
	local b_memory
	b_memory=$(host_cgroup memory)
	runch events --interval 1h "$POD-b" >"$T/b.events" &
	local events=$!
	runch events --interval 1h "$POD-a" >"$T/a.events" &
	runch start "$POD-a"
	eventually 20 says '"type":"oom"' "$T/a.events"
	in_container b true
	# The host's cgroup counts one OOM kill once the member has ended. Its exit status is not affected.
	same "$(kills_of "$a_memory")" 0
	echo >&8
	exec 8>&-
	same "$(exit_status "$a" 10)" 5
	same "$(kills_of "$a_memory")" 1
	same "$(cat "$a_memory/cgroup.procs")" ""
	alive "$PID"
	runch delete "$POD-a"
	runch kill "$POD-b" KILL
	same "$(exit_status "$PID" 10)" 137
	same "$(kills_of "$b_memory")" 0
	runch delete "$POD-b"
	wait "$events" || true
	! says oom "$T/b.events"
}

@test "the VM grows for its members, and what each may have is exact" {
	needs_vm
	containerd sandbox
	annotate io.kubernetes.cri.sandbox-memory 134217728
	config '.linux.resources.cpu.shares = 2'
	launch
	PAUSE=$PID
	local before after
	memory() { in_container '' awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo; }
	before=$(memory)
	containerd container a
	config '.linux.resources.memory.limit = 268435456 | .linux.resources.cpu.shares = 512 |
		.mounts += [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup"}] | .linux.namespaces += [{type: "cgroup"}]'
	launch
	[ "$before" -lt 262144 ] # the pod's announced 128 MiB and the guest's overhead
	[ "$(memory)" -gt $((before + 100000)) ]
	limit() { in_container a cat /sys/fs/cgroup/memory.max; }
	same "$(limit)" 268435456
	# The VM has the weight of a container, not the 2 shares of the first.
	PID=$PAUSE
	[ "$(host_limit cpu cpu.shares cpu.weight)" -ge "$([ -e /sys/fs/cgroup/cgroup.controllers ] && echo 39 || echo 1024)" ]
	after=$(memory)
	echo '{"memory": {"limit": 536870912}}' >"$T/resources"
	runch update --resources "$T/resources" "$POD-a"
	same "$(limit)" 536870912
	[ "$(memory)" -gt $((after + 200000)) ]
}

# bats test_tags=contract:27
@test "a namespace that is not the pod's is refused, by its field" {
	needs_vm
	containerd sandbox
	launch
	PAUSE=$PID
	helper unshare --ipc --uts --net sleep 1000
	local foreign=$helper kind
	for kind in ipc uts; do
		containerd container "foreign-$kind"
		join "$kind" "/proc/$foreign/ns/$kind"
		try create
		[ "$status" -ne 0 ]
		[[ $output$stderr == *"linux.namespaces["*"].path: cannot join the $kind namespace /proc/$foreign/ns/$kind"* ]]
	done
	containerd container foreign-net
	join network "/proc/$foreign/ns/net"
	try create
	[ "$status" -ne 0 ]
	[[ $output$stderr == *"cannot join the network namespace /proc/$foreign/ns/net"* ]]
	# A network namespace of its own: a VM has one network for all members.
	containerd container own
	config '(.linux.namespaces[] | select(.type == "network")) |= {type}'
	try create
	[ "$status" -ne 0 ]
	[[ $output$stderr == *"a network namespace of its own"* ]]
	same "$(runch list --quiet | xargs)" "$POD"
}
