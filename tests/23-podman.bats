#!/usr/bin/env bats
# podman of Debian 12, on cgroup v1: networks, pods and other features that involve several containers or several calls
# of the runtime. A pod is always one VM. 29-kill-podman.bats tests what happens when a process is killed.

load podman

setup_file() {
	[[ $(command podman --version) == *" 4."* ]] || skip "this is about podman 4 on cgroup v1: a later one has its tests in the lab"
	engine
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

@test "a container has a network of its own, where others find it by its name, and the host by a published port" {
	network "${NETWORK}dns"
	podman run --detach --name server --network "${NETWORK}dns" --publish 127.0.0.1::80 "$IMAGE" httpd -f -p 80 -h /etc >/dev/null
	same "$(podman run --rm --network "${NETWORK}dns" "$IMAGE" wget -q -O - http://server/passwd)" "$(<"$RUNCH_ROOTFS/busybox/etc/passwd")"
	same "$(busybox wget -q -Y off -O - "http://$(podman port server 80)/passwd")" "$(<"$RUNCH_ROOTFS/busybox/etc/passwd")"
	podman rm --force --time 0 server
	eventually 10 none_left
}

@test "a container that runs is connected to another network, and disconnected" {
	[ "$RUNCH_TEST_LONG" = 1 ] || skip "a thread through podman of what 34-network shows (RUNCH_TEST_LONG=1)"
	needs_vm
	local address
	network "${NETWORK}more" --disable-dns
	podman run --detach --name web --network "$NETWORK" "$IMAGE" httpd -f -p 80 -h /etc >/dev/null
	ID=$(podman inspect --format '{{.Id}}' web)
	podman network connect "${NETWORK}more" web
	runch network add "$ID"
	same "$(runch network ls --format json "$ID" | jq -r '.[].name' | xargs)" "eth0 eth1"
	address=$(podman inspect web | jq -r --arg network "${NETWORK}more" '.[0].NetworkSettings.Networks[$network].IPAddress')
	same "$(podman run --rm --network "${NETWORK}more" "$IMAGE" wget -q -O - "http://$address/passwd")" "$(<"$RUNCH_ROOTFS/busybox/etc/passwd")"
	podman network disconnect "${NETWORK}more" web
	runch network add "$ID"
	same "$(runch network ls --format json "$ID" | jq -r '.[].name' | xargs)" eth0
	podman rm --force --time 0 web
	podman network rm "${NETWORK}more"
}

# bats test_tags=contract:29
@test "a pod: its members are in one VM and share network, ipc, names and /dev/shm, with what the pod was given" {
	pod_create --hostname house --shm-size 33m --sysctl net.core.somaxconn=77 --add-host elsewhere:192.0.2.9 --publish 127.0.0.1::80
	member a "$IMAGE" httpd -f -p 80 -h /etc
	member b "$IMAGE" sleep 100000
	one_vm
	same "$(namespaces a net ipc uts)" "$(namespaces b net ipc uts)"
	same "$(comm -12 <(namespaces a pid mnt | sort) <(namespaces b pid mnt | sort))" ""
	same "$(podman exec b wget -q -O - http://127.0.0.1/passwd)" "$(<"$RUNCH_ROOTFS/busybox/etc/passwd")"
	same "$(busybox wget -q -Y off -O - "http://$(podman port a 80)/passwd")" "$(<"$RUNCH_ROOTFS/busybox/etc/passwd")"
	podman exec a sh -c 'echo from a >/dev/shm/file'
	same "$(podman exec b cat /dev/shm/file)" "from a"
	local name
	for name in a b; do
		same "$(podman exec $name sh -c 'df -k /dev/shm | tail -n 1; hostname; cat /proc/sys/net/core/somaxconn; grep elsewhere /etc/hosts' |
			sed -E 's/ +/ /g; 1s/^[^ ]+ ([0-9]+) .*/\1/')" $'33792\nhouse\n77\n192.0.2.9\telsewhere'
	done
	same "$(states)" $'Running\na running\nb running\ninfra running'
	podman pod rm --force --time 0 pod
	eventually 10 none_left
}

@test "in a pod: logs, exec with and without a terminal, cp, top, stats, update, healthcheck, pause" {
	pod_create
	member a --health-cmd 'test -e /healthy' --health-interval disable --health-timeout 60s "$IMAGE" \
		sh -c 'echo begun; touch /healthy; while [ ! -e /go ]; do sleep 0.1; done; echo gone on; sleep 100000'
	podman logs --follow a >"$T/log" &
	local follows=$!
	eventually 10 says begun "$T/log"
	podman exec a touch /go
	eventually 10 says 'gone on' "$T/log"

	try podman exec a sh -c 'echo out; echo err >&2; exit 5'
	same "$status $output $stderr" "5 out err"
	# podman sets the size some time after the process has started.
	try on_terminal "stty rows 33 cols 99; timeout --foreground 60 $SHARED/podman exec --tty a sh -c 'tty; until [ \"\$(stty size)\" = \"33 99\" ]; do :; done; exit 6'"
	same "$status" 6
	[[ $output == *"/dev/pts/0"* ]]

	echo in >"$T/in"
	podman cp "$T/in" a:/etc/in
	same "$(podman exec a cat /etc/in)" in
	[ ! -e /etc/in ]
	podman exec a sh -c 'echo out >/out'
	podman cp a:/out "$T/out"
	same "$(<"$T/out")" out

	# Of a member, the host has only its shim; the VM's processes are not shown.
	try podman top a pid comm
	same "$status" 0
	[ "$(wc -l <<<"$output")" = 2 ]
	[[ $output != *qemu* ]]
	try podman pod stats --no-stream --format '{{.Name}} {{.MemUsage}}'
	[[ $output == *"a "[1-9]* && $output == *"$INFRA "[1-9]* ]]
	podman update --memory 300m a >/dev/null
	! is_runch || same "$(podman exec a sh -c 'cat "/sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)/memory.max"')" $((300 << 20))

	podman healthcheck run a
	podman exec a rm /healthy
	try podman healthcheck run a
	same "$status $output" "1 unhealthy"

	podman pod pause pod
	same "$(states)" $'Paused\na paused\ninfra paused'
	podman pod unpause pod
	same "$(states)" $'Running\na running\ninfra running'
	podman exec a true
	# When the container ends, its log ends.
	podman kill a
	eventually 10 dead $follows
	one_vm
}

@test "a pod with --share pid: all processes see each other and can kill each other" {
	pod_create --share net,ipc,uts,pid
	member a "$IMAGE" sleep 100000
	member b "$IMAGE" sleep 200000
	same "$(namespaces a pid)" "$(namespaces b pid)"
	same "$(podman exec a ps -o args | grep -c '^sleep')" 2
	podman exec a sh -c 'kill -9 $(ps -o pid,args | awk "/sleep 200000/ && !/awk/ { print \$1 }")'
	same "$(timeout 30 "$SHARED/podman" wait b)" 137
	podman exec a true
	one_vm
}

# bats test_tags=contract:30
@test "a pod is stopped, started, restarted, killed and started again: a VM for each time" {
	pod_create
	member a "$IMAGE" sh -c 'trap "sleep 1; echo bye; exit 3" TERM; sleep 100000 & wait'
	local first
	first=$(podman exec a cat /proc/sys/kernel/random/boot_id)
	# podman tells all containers to end at the same time. Each has its full grace period, though the infra container
	# owns the VM.
	podman pod stop pod
	same "$(states)" $'Exited\na exited\ninfra exited'
	same "$(field a '{{.State.ExitCode}}') $(podman logs a)" "3 bye"
	same "$(vmms)" 0
	podman pod start pod
	! is_runch || [ "$(podman exec a cat /proc/sys/kernel/random/boot_id)" != "$first" ]
	podman pod restart pod
	same "$(states)" $'Running\na running\ninfra running'
	one_vm
	podman pod kill pod
	eventually 10 is "$INFRA" exited
	eventually 10 is a exited
	same "$(states)" $'Exited\na exited\ninfra exited'
	same "$(vmms)" 0
	podman pod start pod
	podman exec a true
}

@test "restart policies: a member that crashes is started again in the VM that there is, twice or as often as it takes" {
	pod_create
	member twice --restart on-failure:2 "$IMAGE" sh -c 'echo begun; exit 3'
	member always --restart always "$IMAGE" sleep 100000
	restarted() { [ "$(field "$1" '{{.RestartCount}} {{.State.Status}}')" = "$2" ]; }
	eventually 20 restarted twice '2 exited'
	same "$(field twice '{{.State.ExitCode}}')" 3
	same "$(podman logs twice)" $'begun\nbegun\nbegun'
	kill -KILL "$(field always '{{.State.Pid}}')"
	eventually 20 restarted always '1 running'
	podman exec always true
	one_vm
}

@test "kube play: init containers, members with a probe, limits, and volumes that they have in common; kube down" {
	cat >"$T/pod.yaml" <<-EOT
		apiVersion: v1
		kind: ConfigMap
		metadata: {name: settings}
		data: {greeting: hello}
		---
		apiVersion: v1
		kind: Pod
		metadata: {name: pod}
		spec:
		  restartPolicy: Never
		  initContainers:
		  - name: init
		    image: $IMAGE
		    command: [cp, /settings/greeting, /data/index.html]
		    volumeMounts:
		    - {name: data, mountPath: /data}
		    - {name: settings, mountPath: /settings}
		  containers:
		  - name: server
		    image: $IMAGE
		    command: [httpd, -f, -p, "80", -h, /data]
		    resources: {limits: {memory: 100Mi, cpu: 500m}}
		    livenessProbe: {exec: {command: [test, -e, /data/index.html]}, periodSeconds: 100, timeoutSeconds: 60}
		    volumeMounts:
		    - {name: data, mountPath: /data}
		  - name: client
		    image: $IMAGE
		    command: [sleep, "100000"]
		    volumeMounts:
		    - {name: data, mountPath: /var/data}
		    - {name: settings, mountPath: /settings}
		  volumes:
		  - {name: data, emptyDir: {}}
		  - {name: settings, configMap: {name: settings}}
	EOT
	podman kube play --network "$NETWORK" "$T/pod.yaml"
	same "$(states)" $'Running\ninfra running\npod-client running\npod-server running'
	one_vm
	same "$(podman exec pod-client sh -c 'wget -q -O - http://localhost/; cat /settings/greeting; hostname')" hellohellopod
	! is_runch || same "$(podman exec pod-server sh -c 'cd "/sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)" && cat memory.max cpu.max')" $'104857600\n50000 100000'
	podman healthcheck run pod-server
	podman exec pod-client rm /var/data/index.html
	try podman healthcheck run pod-server
	same "$status $output" "1 unhealthy"
	podman generate kube pod >"$T/again.yaml"
	podman kube down "$T/pod.yaml"
	same "$(podman ps --all --quiet)" ""
	# generate kube describes the pod, without the volume that was removed with it.
	says "image: $IMAGE" "$T/again.yaml"
	says "memory: 100Mi" "$T/again.yaml"
}

@test "build: each RUN is in a VM, and what it wrote is in the image" {
	printf 'FROM %s\nRUN uname -r >/kernel && mkdir /made && chmod 1700 /made\nCMD ["sh", "-c", "cat /kernel; stat -c %%a /made"]\n' "$IMAGE" >"$T/Containerfile"
	podman build --quiet --tag made --file "$T/Containerfile" "$T"
	same "$(podman run --rm --network none made)" "$(podman run --rm --network none "$IMAGE" uname -r)"$'\n1700'
	podman rmi --force made
}

@test "--network, --pid and --ipc of another container are in its VM; a network of its own beside its pids is refused" {
	podman run --detach --name a "$IMAGE" sleep 100000
	podman run --detach --name b --network container:a --pid container:a --ipc container:a "$IMAGE" sleep 200000
	same "$(namespaces a net pid ipc)" "$(namespaces b net pid ipc)"
	one_vm
	same "$(podman exec b ps -o args | grep -c '^sleep')" 2
	if is_runch; then
		try podman run --rm --pid container:a "$IMAGE" true
		[ "$status" -ne 0 ]
		[[ $stderr == *"cannot join the network namespace"* ]]
	fi
	# A container that has joined another's pid namespace ends with that one.
	podman kill a
	same "$(timeout 30 "$SHARED/podman" wait b)" 137
}

# bats test_tags=contract:29
@test "a pod without an infra container: nothing is shared, and each member is in a VM of its own" {
	pod_create --infra=false
	member a "$IMAGE" sleep 100000
	member b "$IMAGE" sleep 100000
	! is_runch || same "$(vmms)" 2
	[ "$(podman exec a ip -o -4 address show eth0)" != "$(podman exec b ip -o -4 address show eth0)" ]
	podman run --rm --pod pod --network container:a "$IMAGE" true
	podman kill a
	podman exec b true
	podman pod rm --force --time 0 pod
	eventually 10 none_left
}

@test "a pod with a user namespace: its members join it, and files are its root's on the host" {
	pod_create --uidmap 0:100000:5000 --gidmap 0:100000:5000
	member a "$IMAGE" sleep 100000
	member b "$IMAGE" sleep 100000
	one_vm
	same "$(namespaces a user net ipc uts)" "$(namespaces b user net ipc uts)"
	same "$(podman exec a sh -c 'id -u; tr -s " " </proc/self/uid_map; echo from a >/dev/shm/file; echo 1 >/tmp/file')" $'0\n 0 100000 5000'
	same "$(podman exec b cat /dev/shm/file)" "from a"
	same "$(podman exec b stat -c %u /dev/shm/file)" 0
	same "$(stat -c %u "$(podman mount a)/tmp/file")" 100000
	podman umount a
}
