#!/usr/bin/env bats
# docker of Debian 12 and Debian 13, whose daemon calls runch by containerd's shim for runc: containers, networks,
# volumes, builds, and what happens to containers when the daemon ends.

load docker

setup_file() {
	! docker_known || dockerd_begin
}

teardown_file() {
	! docker_known || dockerd_end
}

setup() {
	docker_known || skip "this is about docker 20.10 and 26.1, and here is $VERSION"
	docker_begin
}

teardown() {
	! docker_known || docker_finish
}

# SIZED waits for the terminal's size, which docker sets some time after the process has started.
readonly SIZED='until [ "$(stty size 2>/dev/null)" = "33 99" ]; do :; done'

@test "run: exit code, output, input and a terminal are the process's; what does not run is told apart" {
	try eval 'echo in | docker run --rm --interactive "$IMAGE" sh -c "cat; echo err >&2; uname -r; exit 5"'
	same "$status $stderr" "5 err"
	same "$(head -n 1 <<<"$output")" in
	# The container runs on the guest's kernel.
	same "$(tail -n 1 <<<"$output")" "$(kernel)"
	try docker_on_terminal "run --rm --interactive --tty $IMAGE sh -c '$SIZED; tty; exit 6'"
	same "$status" 6
	[[ $output == *"/dev/pts/0"* ]]
	try docker run --rm "$IMAGE" /no/such/command
	same "$status" 127
	[[ $stderr == *"/no/such/command"*"no such file or directory"* ]]
}

@test "run: what a VM cannot have is refused by name, and nothing is left of it" {
	needs_vm
	local word
	for word in --network=host --pid=host --ipc=host; do
		try docker run --rm "$word" "$IMAGE" true
		same "$status" 125
		[[ $stderr == *"OCI runtime create failed"*"linux.namespaces"*"set fallback_runtime"* ]]
	done
	# Any disk of this machine.
	local number
	number=$(find /sys/dev/block -mindepth 1 -printf '%f\n' | head -n 1)
	mknod "$T/disk" b "${number%:*}" "${number#*:}"
	try docker run --rm --device "$T/disk:/dev/disk" "$IMAGE" true
	same "$status" 125
	[[ $stderr == *"a device of the host (/dev/disk, b $number) cannot be given to a VM"* ]]
}

@test "a container that runs: exec, logs, attach, cp, top, stats, update, healthcheck" {
	docker run --detach --interactive --name one --health-cmd 'test -e /healthy' --health-interval 2s --health-timeout 60s \
		"$IMAGE" sh -c 'echo begun; read -r line; echo "heard $line"; exit 4' >/dev/null
	try docker exec one sh -c 'echo out; echo err >&2; exit 5'
	same "$status $output $stderr" "5 out err"
	try docker_on_terminal "exec --interactive --tty one sh -c '$SIZED; tty; exit 6'"
	same "$status" 6
	[[ $output == *"/dev/pts/0"* ]]
	same "$(echo in | docker exec --interactive one cat)" in

	health() { [ "$(field one '{{.State.Health.Status}}')" = "$1" ]; }
	docker exec one touch /healthy
	eventually 30 health healthy

	echo in >"$T/in"
	docker cp "$T/in" one:/etc/in
	same "$(docker exec one cat /etc/in)" in
	[ ! -e /etc/in ]
	docker exec one sh -c 'echo out >/out'
	docker cp one:/out "$T/out"
	same "$(<"$T/out")" out
	[[ $(docker diff one) == *"A /etc/in"* ]]

	# The process on the host is the shim. Its last arguments are those of the container's process.
	docker top one -o pid,args | grep "^$(field one '{{.State.Pid}}') .*sh -c echo begun"
	[[ $(docker stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' one) == "one "[1-9]*" "[1-9]* ]]
	docker update --memory 300m --memory-swap 600m --cpus 0.5 one >/dev/null
	! is_runch || same "$(docker exec one sh -c 'cd "/sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)" && cat memory.max cpu.max')" $'314572800\n50000 100000'

	docker logs --follow one >"$T/log" &
	local follows=$!
	try eval 'echo word | docker attach one'
	same "$status" 4
	# When the container ends, its log ends.
	eventually 10 dead $follows
	same "$(<"$T/log")" $'begun\nheard word'
	is one exited
}

@test "a container is paused, stopped in its own time, started again, restarted, killed, and restarted by its policy" {
	docker run --detach --name one --restart on-failure:1 "$IMAGE" \
		sh -c 'trap "sleep 1; echo bye; exit 3" TERM; echo begun; while :; do sleep 100000 & wait; done' >/dev/null
	begun() { [ "$(docker logs one | grep -c begun)" = "$1" ]; }
	eventually 20 begun 1
	# Without a healthcheck, as docker 20.10 can deadlock: if a healthcheck starts while the container is paused, docker
	# waits for the healthcheck's end, and holds the container's lock, which unpause needs.
	docker pause one >/dev/null
	is one paused
	try docker exec one true
	[[ $stderr == *"is paused"* ]]
	docker unpause one >/dev/null
	docker stop one >/dev/null
	same "$(field one '{{.State.Status}} {{.State.ExitCode}}')" "exited 3"
	docker start one >/dev/null
	eventually 20 begun 2
	# The container ends without docker stop or kill, so its restart policy starts it again.
	docker exec one kill 1
	policy() { [ "$(field one '{{.State.Status}} {{.RestartCount}}')" = "running 1" ]; }
	eventually 30 policy
	eventually 20 begun 3
	docker restart --time 20 one >/dev/null
	is one running
	eventually 20 begun 4
	docker kill one >/dev/null
	same "$(docker wait one)" 137
	same "$(docker logs one)" $'begun\nbye\nbegun\nbye\nbegun\nbye\nbegun'
}

@test "a web server and a client: names, a volume that they share, published ports, another container's namespaces" {
	docker network create house >/dev/null
	docker volume create pages >/dev/null
	docker run --detach --name web --network house --network-alias www --volume pages:/pages:ro --publish 8080:80 --ipc shareable \
		"$IMAGE" httpd -f -p 80 -h /pages >/dev/null
	docker run --detach --name client --network house --volume pages:/pages "$IMAGE" sleep 100000 >/dev/null
	docker exec client sh -c 'echo hello >/pages/index.html'

	# docker's name server, at 127.0.0.11, knows the names of the network. It forwards all other questions to the name
	# server in $OUTSIDE, from inside of the container's network namespace.
	same "$(docker exec client wget -q -O - http://web/)" hello
	same "$(docker exec client wget -q -O - http://www/)" hello
	same "$(docker exec client workload names world.test)" "$(printf 'udp [%s]\ntcp [%s]' $WORLD $WORLD)"
	same "$(docker exec client wget -q -O - http://world.test/)" "the world"

	# The published port is reached from $MACHINE (at localhost by docker's userland proxy) and from $OUTSIDE.
	same "$(on_machine busybox wget -q -Y off -O - http://127.0.0.1:8080/)" hello
	same "$(on_machine busybox wget -q -Y off -O - http://$NEAR:8080/)" hello
	same "$(outside busybox wget -q -Y off -O - http://$NEAR:8080/)" hello

	# The new container is in the server's VM. Joining only its pid or ipc namespace is refused, as the network would be
	# another.
	same "$(docker run --rm --network container:web --pid container:web --ipc container:web "$IMAGE" \
		sh -c 'wget -q -O - http://localhost/; ps -o args | grep -c "^httpd"')" $'hello\n1'
	if is_runch; then
		local kind
		for kind in pid ipc; do
			try docker run --rm "--$kind" container:web "$IMAGE" true
			same "$status" 125
			[[ $stderr == *"a network namespace of its own: containers in one VM have one network"* ]]
		done
	fi

	docker restart --time 0 web >/dev/null
	eventually 20 serves client http://web/ hello
	same "$(outside busybox wget -q -Y off -O - http://$NEAR:8080/)" hello
	docker rm --force web client >/dev/null
	docker network rm house >/dev/null
	docker volume rm pages >/dev/null
	eventually 10 none_left
}

# kernel: prints the version of the kernel that containers see.
kernel() {
	if is_runch; then
		"$RUNCH" env --format json | jq -r .kernel.version
	else
		uname -r
	fi
}

# serves NAME URL TEXT: whether a container gets this text from the URL.
serves() {
	[ "$(docker exec "$1" wget -q -O - "$2" 2>/dev/null)" = "$3" ]
}

@test "the default bridge; a container that runs is connected to another network, and disconnected" {
	docker run --detach --name one "$IMAGE" sleep 100000 >/dev/null
	same "$(docker exec one wget -q -O - http://world.test/)" "the world"
	addresses() { docker exec one ip -o -4 address show scope global | awk '{ print $2 }' | xargs; }
	same "$(addresses)" eth0
	# A process in the container's network namespace on the host, as docker's name server is, gets the answers to its
	# own requests.
	same "$(nsenter --net="/proc/$(field one '{{.State.Pid}}')/ns/net" busybox wget -q -Y off -O - http://$WORLD/)" "the world"

	docker network create other >/dev/null
	docker network connect other one
	! is_runch || runch network add "$(field one '{{.Id}}')"
	same "$(addresses)" "eth0 eth1"
	docker network disconnect other one
	! is_runch || runch network add "$(field one '{{.Id}}')"
	same "$(addresses)" eth0
}

@test "a macvlan network: the container is a neighbour of the machine's" {
	docker network create --driver macvlan --opt parent=wire --subnet 198.51.100.0/24 --gateway $WORLD --ip-range 198.51.100.128/25 wire >/dev/null
	same "$(docker run --rm --network wire "$IMAGE" sh -c 'wget -q -O - http://world.test/; ip -o -4 address show scope global | grep -c 198.51.100.128/24')" $'the world\n1'
}

@test "no network, volumes, and what keeps a process in bounds" {
	mkdir "$T/dir"
	echo bound >"$T/dir/file"
	try docker run --rm --network none --volume "$T/dir:/dir:ro" --tmpfs /tmp:size=5m --shm-size 33m --read-only --init \
		--user 65534:65534 --group-add 7 --cap-drop ALL --security-opt no-new-privileges --ulimit nofile=100:100 --pids-limit 50 --hostname house \
		--sysctl net.core.somaxconn=77 "$IMAGE" sh -c 'ls /sys/class/net; cat /dir/file; touch /dir/new /new /tmp/new; df -k /tmp /dev/shm | tail -n 2
			id; grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; ulimit -n; hostname; cat /proc/sys/net/core/somaxconn; cat /proc/1/comm'
	same "$status" 0
	same "$(sed -E 's/[[:space:]]+/ /g; s/^([a-z]+) ([0-9]+) .*%/\1 \2/' <<<"$output")" "lo
bound
tmpfs 5120 /tmp
shm 33792 /dev/shm
uid=65534(nobody) gid=65534(nogroup) groups=7,65534(nogroup)
CapEff: 0000000000000000
CapBnd: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
100
house
77
docker-init"
	same "$(grep -c 'Read-only file system' "$T/.err")" 2
}

@test "--privileged: all capabilities and devices, of the guest" {
	needs_vm
	# All capabilities that docker knows.
	local all=000001ffffffffff
	[ "$VERSION" != 20.10 ] || all=0000003fffffffff
	same "$(docker run --rm --privileged "$IMAGE" sh -c 'mkdir /mnt; mount -t tmpfs none /mnt && grep -c " /mnt tmpfs" /proc/mounts
		grep CapEff /proc/self/status; ls -d /dev/kmsg /dev/vda 2>/dev/null')" $'1\nCapEff:\t'$all$'\n/dev/kmsg'
}

@test "a container that is out of memory is known to have been" {
	try docker run --name one --memory 64m --tmpfs /big "$IMAGE" dd if=/dev/zero of=/big/file bs=1M count=200
	same "$status" 137
	same "$(field one '{{.State.OOMKilled}}')" true
}

@test "build by docker's own builder: each RUN is in a VM, and what it wrote is in the image" {
	mkdir "$T/context"
	printf 'FROM %s\nRUN uname -r >/kernel && mkdir -m 1700 /made\nRUN cat /kernel; stat -c %%a /made; wget -q -O - http://world.test/\n' \
		"$IMAGE" >"$T/context/Dockerfile"
	DOCKER_BUILDKIT=0 docker build --tag built "$T/context" >"$T/said"
	same "$(grep -v -e '^ --->' -e ^Removing "$T/said" | sed -n '/^Step 3/,/^Successfully/p' | sed '1d;$d')" "$(kernel)
1700
the world"
	docker rmi built >/dev/null
}

@test "build by BuildKit: where runch is the daemon's runc, each RUN is in a VM as well" {
	mkdir "$T/context"
	printf 'FROM %s\nRUN uname -r; wget -q -O - http://world.test/\n' "$IMAGE" >"$T/context/Dockerfile"
	DOCKER_BUILDKIT=1 docker build --progress plain --tag built "$T/context" >"$T/said" 2>&1
	same "$(sed -nE 's/^#[0-9]+ [0-9]+[.][0-9]+ //p' "$T/said")" "$(kernel)"$'\n'"the world"
	docker rmi built >/dev/null
}

@test "with live-restore a container goes on without the daemon, and without it ends with it" {
	docker run --detach --name one --publish 8080:80 "$IMAGE" sh -c 'echo hello >/index.html; httpd -f -p 80 -h /' >/dev/null
	written() { [ "$(docker exec one cat /index.html)" = hello ]; }
	eventually 10 written
	live_restore true
	dockerd_stop
	# From $OUTSIDE, as without the daemon there is no proxy at localhost.
	same "$(outside busybox wget -q -Y off -O - http://$NEAR:8080/)" hello
	dockerd
	is one running
	same "$(docker exec one cat /index.html)" hello

	live_restore false
	dockerd_stop
	eventually 10 ended
	dockerd
	is one exited
}

# ended: whether no process, cgroup, mount or record of a container is left, though docker still knows the containers.
ended() {
	[ -z "$(left | grep -v ^file)" ]
}

# live_restore BOOL: changes the setting of the running daemon, by a reload.
live_restore() {
	setting live-restore "$1"
	kill -HUP "$(<"$SHARED/pid")"
	told() { [ "$(docker info --format '{{.LiveRestoreEnabled}}')" = "$1" ]; }
	eventually 10 told "$1"
}
