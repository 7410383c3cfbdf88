#!/usr/bin/env bats
# podman without root: runch runs in podman's user namespace, as root there and as an ordinary user outside. The lab's
# user has what is needed for that: subordinate ids, the group kvm, and a systemd session with delegated cgroups. The
# last tests each take one of these away.

load callers

setup_file() {
	getent passwd user >/dev/null || skip "there is no user \"user\": this is for the lab"
	loginctl enable-linger user
	eventually 60 test -S /run/user/1000/bus
	install -d -o user "$BATS_FILE_TMPDIR/user"
	as_user podman image exists "$IMAGE" ||
		tar -C "$RUNCH_ROOTFS/busybox" -c . | as_user podman import --quiet --change 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' - "$IMAGE"
	world
}

teardown_file() {
	no_world
}

setup() {
	begin
	chmod 0755 "$T" # for the user
	NAME=c${T##*.}
	UNDO=()
}

teardown() {
	as_user timeout 120 podman rm --all --force --time 0 >/dev/null 2>&1 || true
	as_user timeout 120 podman pod rm --all --force --time 0 >/dev/null 2>&1 || true
	local command
	for command in "${UNDO[@]}"; do
		eval "$command"
	done
	rm -rf "$T"
}

# as_user COMMAND...: runs the command as the user, in a session as after a login.
as_user() {
	setpriv --reuid user --regid user --init-groups --reset-env env -C /home/user \
		XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus PATH="$PATH" \
		RUNCH_ACCEL="${RUNCH_ACCEL:-auto}" RUNCH_BOOT_TIMEOUT="${RUNCH_BOOT_TIMEOUT:-1m}" RUNCH_HYPERVISOR="${RUNCH_HYPERVISOR:-auto}" \
		RUNCH_CLOUD_HYPERVISOR="${RUNCH_CLOUD_HYPERVISOR:-}" "$@"
}

# podman_does ARGUMENT...: runs the user's podman with runch, with a deadline.
podman_does() {
	as_user timeout --foreground "$DEADLINE" podman --runtime "$RUNCH" "$@" 3>&-
}

# podman_run ARGUMENT...: runs podman run without a network.
podman_run() {
	podman_does run --network none --name "$NAME" "$@"
}

# world: the lab has no network, so this makes one: a network namespace that stands for another machine, with a web
# server and a name server.
world() {
	ip netns add world
	ip link add uplink type veth peer name eth0 netns world
	ip address add 198.51.100.2/24 dev uplink
	ip link set uplink up
	ip -n world address add 198.51.100.1/24 dev eth0
	ip -n world link set eth0 up
	ip -n world link set lo up
	ip route add default via 198.51.100.1
	mkdir "$BATS_FILE_TMPDIR/www"
	echo the world >"$BATS_FILE_TMPDIR/www/index.html"
	ip netns exec world busybox httpd -p 80 -h "$BATS_FILE_TMPDIR/www" 3>&-
	ip netns exec world dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file= --address=/web.example/198.51.100.1 3>&-
	cp /etc/resolv.conf "$BATS_FILE_TMPDIR/resolv.conf" 2>/dev/null || : >"$BATS_FILE_TMPDIR/resolv.conf"
	echo nameserver 198.51.100.1 >/etc/resolv.conf
}

no_world() {
	[ -e /run/netns/world ] || return 0
	cp "$BATS_FILE_TMPDIR/resolv.conf" /etc/resolv.conf
	ip netns pids world | xargs -r kill
	ip link delete uplink
	ip netns delete world
}

# WEB is a container's script for a web server whose page is the container's name. REACH is one that looks up and asks
# the web server of the world.
WEB='mkdir -p /www && hostname >/www/index.html && exec httpd -f -p 80 -h /www'
REACH='nslookup -type=a web.example | grep -q 198.51.100.1 && printf "GET / HTTP/1.0\r\n\r\n" | nc 198.51.100.1 80 | tail -n 1'

# page PLACE ADDRESS: prints a web server's page, requested from the lab itself (host) or the other machine (world).
page() {
	local from=()
	[ "$1" = host ] || from=(ip netns exec world)
	"${from[@]}" busybox wget -q -T 10 -O - "http://$2/" 2>/dev/null
}

# serves PLACE ADDRESS [NAME]: waits until the page is that of this container.
serves() {
	page_is() { [ "$(page "$1" "$2")" = "$3" ]; }
	eventually 20 page_is "$1" "$2" "${3:-$NAME}"
}

# undo COMMAND: runs the command at the end of the test, passed or not.
undo() {
	UNDO+=("$1")
}

none_left() {
	same "$(as_user podman ps --all --quiet)" ""
	eventually 10 eval '! pgrep -u user "runch|qemu|virtiofsd|cloud-hyp|conmon|pasta|slirp4netns|rootlessport"'
	same "$(find /run/user/1000/runch -mindepth 1 2>/dev/null)" ""
	same "$(find /sys/fs/cgroup -name 'libpod-*.scope')" ""
}

@test "podman run without root: output, the exit code, another kernel; nothing is left" {
	try podman_run --rm "$IMAGE" sh -c 'id -u; uname -r >&2; exit 7'
	same "$status" 7
	same "$output" 0
	[[ $stderr != *"$(uname -r)"* ]]
	none_left
}

@test "podman run without root: inspect says OOMKilled where the guest was short of memory" {
	try podman_run --memory 32m "$IMAGE" dd if=/dev/zero of=/dev/null bs=100M count=1
	same "$status" 137
	same "$(as_user podman inspect --format '{{.State.OOMKilled}}' "$NAME")" true
	as_user podman rm "$NAME"
	none_left
}

@test "podman run -d without root: a scope of the user's, exec, cp both ways, top, stats, a healthcheck, pause, restart, stop; nothing is left" {
	podman_run -d --health-cmd 'test -e /healthy' --health-interval disable "$IMAGE" \
		sh -c 'echo started; trap "exit 3" TERM; while :; do sleep 0.1; done'
	local pid id
	pid=$(as_user podman inspect --format '{{.State.Pid}}' "$NAME")
	id=$(as_user podman inspect --format '{{.Id}}' "$NAME")
	same "$(stat -c %U "/proc/$pid")" user
	[[ $(<"/proc/$pid/cgroup") == 0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$id.scope ]]
	eventually 30 eval "as_user podman logs $NAME | grep -q started"

	try as_user podman exec "$NAME" sh -c 'echo in exec; exit 5'
	same "$status $output" "5 in exec"
	echo in >"$T/in"
	as_user podman cp "$T/in" "$NAME:/etc/lab-in"
	same "$(as_user podman exec "$NAME" cat /etc/lab-in)" in
	as_user podman cp "$NAME:/etc/lab-in" - | tar -xO | diff "$T/in" -
	as_user podman top "$NAME" args | grep -q 'runch shim -- sh -c echo started'
	[ "$(as_user podman stats --no-stream --format '{{.MemUsage}}' "$NAME" | cut -d ' ' -f 1)" != 0B ]

	try as_user podman healthcheck run "$NAME"
	same "$status $output" "1 unhealthy"
	as_user podman exec "$NAME" touch /healthy
	as_user podman healthcheck run "$NAME"

	as_user podman pause "$NAME"
	same "$(as_user podman inspect --format '{{.State.Status}}' "$NAME")" paused
	as_user podman unpause "$NAME"
	podman_does restart --time 60 "$NAME"
	as_user podman exec "$NAME" test -e /healthy
	as_user podman stop --time 60 "$NAME"
	same "$(as_user podman inspect --format '{{.State.ExitCode}}' "$NAME")" 3
	as_user podman rm "$NAME"
	none_left
}

@test "the network by pasta: the container reaches out and finds names, and a port that it publishes is reached from everywhere" {
	podman_does run -d --name "$NAME" --hostname "$NAME" -p 8080:80 "$IMAGE" sh -c "$WEB"
	serves host 127.0.0.1:8080
	serves host 198.51.100.2:8080
	serves world 198.51.100.2:8080
	same "$(as_user podman exec "$NAME" sh -c "$REACH")" "the world"
	# The addresses are the lab's own, as pasta copies them, with any runtime.
	as_user podman exec "$NAME" ip -o address show dev uplink | grep -q 198.51.100.2/24
	podman_does restart --time 0 "$NAME"
	serves host 127.0.0.1:8080
	as_user podman rm --force --time 0 "$NAME"
	none_left
}

@test "the network by slirp4netns, and its port handlers" {
	local handler
	for handler in rootlesskit slirp4netns; do
		podman_does run -d --name "$NAME" --hostname "$NAME" --network "slirp4netns:port_handler=$handler" -p 8080:80 "$IMAGE" sh -c "$WEB"
		serves host 127.0.0.1:8080
		serves world 198.51.100.2:8080
		same "$(as_user podman exec "$NAME" sh -c "$REACH")" "the world"
		as_user podman rm --force --time 0 "$NAME"
	done
	none_left
}

@test "a network of the user's own: containers find each other by name, reach out, publish ports" {
	as_user podman network create "$NAME"
	undo "as_user podman network rm --force $NAME"
	podman_does run -d --name "$NAME" --hostname "$NAME" --network "$NAME" -p 8080:80 "$IMAGE" sh -c "$WEB"
	serves host 127.0.0.1:8080
	serves world 198.51.100.2:8080
	try podman_does run --rm --network "$NAME" "$IMAGE" sh -c "printf 'GET / HTTP/1.0\r\n\r\n' | nc $NAME 80 | tail -n 1; $REACH"
	same "$output" "$NAME"$'\n'"the world"
	as_user podman rm --force --time 0 "$NAME"
	none_left
}

@test "a pod: one network and one hostname for its members, which come and go; its ports are the pod's" {
	podman_does pod create --name "$NAME" --hostname "$NAME" -p 8080:80 --share net,ipc,uts
	podman_does run -d --pod "$NAME" --name "$NAME-web" "$IMAGE" sh -c "$WEB"
	serves host 127.0.0.1:8080
	try podman_does run --rm --pod "$NAME" "$IMAGE" sh -c 'printf "GET / HTTP/1.0\r\n\r\n" | nc 127.0.0.1 80 | tail -n 1; hostname'
	same "$output" "$NAME"$'\n'"$NAME"
	# The pod is one VM.
	same "$(pgrep -u user -c 'qemu|cloud-hyp')" 1
	as_user podman pod stop --time 1 "$NAME"
	same "$(as_user podman pod inspect --format '{{.State}}' "$NAME")" Exited
	podman_does pod start "$NAME"
	serves host 127.0.0.1:8080
	as_user podman pod rm --force --time 0 "$NAME"
	none_left
}

@test "volumes: what a container makes belongs to the user, or to one of their subordinate ids; --userns=keep-id keeps the user's own" {
	install -d -o user -g user "$T/dir"
	undo "as_user podman volume rm --force $NAME"
	try podman_run --rm -v "$T/dir:/dir" -v "$NAME:/volume" "$IMAGE" \
		sh -c 'touch /dir/root /volume/root; touch /dir/other && chown 5:6 /dir/other; stat -c %u:%g /dir/root /dir/other /volume/root'
	same "$output" $'0:0\n5:6\n0:0'
	same "$(stat -c %U:%G "$T/dir/root")" user:user
	local first
	first=$(sed -n 's/^user:\([0-9]*\):.*/\1/p' /etc/subuid)
	same "$(stat -c %u "$T/dir/other")" $((first + 5 - 1))

	try podman_run --rm --userns keep-id -v "$T/dir:/dir" "$IMAGE" sh -c 'id -un; touch /dir/kept; stat -c %u:%g /dir/root /dir/kept'
	same "$output" $'user\n1000:1000\n1000:1000'
	same "$(stat -c %U:%G "$T/dir/kept")" user:user

	# A named volume outlives its container, and the next container may run as another user.
	try podman_run --rm --user 7:8 -v "$NAME:/volume" "$IMAGE" sh -c 'id -u; stat -c %u:%g /volume/root'
	same "$output" $'7\n0:0'
	none_left
}

@test "podman build without root: each RUN is in a VM" {
	printf 'FROM %s\nRUN uname -r >/kernel && id -u >/id\n' "$IMAGE" >"$T/Containerfile"
	podman_does build --quiet --network none --tag localhost/built "$T"
	as_user podman create --name "$NAME" localhost/built true
	same "$(as_user podman cp "$NAME:/id" - | tar -xO)" 0
	[[ $(as_user podman cp "$NAME:/kernel" - | tar -xO) != "$(uname -r)" ]]
	as_user podman rm "$NAME"
	as_user podman rmi localhost/built
	none_left
}

@test "who is not in the group kvm is told so, in one line" {
	gpasswd --delete user kvm
	undo 'gpasswd --add user kvm'
	try podman_run --rm "$IMAGE" true
	same "$status" 126
	[[ $stderr == *"open /dev/kvm: permission denied: it is for the group kvm: "*"adduser USER kvm"* ]]
	same "$(grep -c . <<<"$stderr")" 1
	# KVM is optional: with accel = auto the guests are emulated, which check reports.
	RUNCH_ACCEL=auto RUNCH_HYPERVISOR=qemu try as_user podman unshare "$RUNCH" check
	[[ $output =~ hypervisor\ +ok\ .*tcg ]]
	[[ $output =~ kvm\ +absent\ [^$'\n']*permission\ denied[^$'\n']*$'\n'\ +fix\ with:\ adduser\ .*kvm ]]
	none_left
}

@test "without /dev/vhost-vsock QEMU's serial port takes its place, without /dev/net/tun there is no network; check says how to get them" {
	chmod 0600 /dev/vhost-vsock /dev/net/tun
	undo 'chmod 0660 /dev/vhost-vsock; chmod 0666 /dev/net/tun'
	try as_user podman unshare "$RUNCH" check
	same "$status" 1
	[[ $output =~ vsock\ +absent\ [^$'\n']*permission\ denied[^$'\n']*$'\n'\ +fix\ with:\ adduser\ .*kvm ]]
	[[ $output =~ tun\ +MISSING\ [^$'\n']*permission\ denied[^$'\n']*$'\n'\ +fix\ with:\ chmod\ 0666\ /dev/net/tun ]]
	try podman_run --rm "$IMAGE" echo there
	same "$output" there
	none_left
}

# own_storage: makes a rootfs that belongs to the user, and sets OWN to podman's options for storage of the test's own.
own_storage() {
	install -d -o user -m 0700 "$T/run" "$T/storage"
	cp -a "$RUNCH_ROOTFS/busybox" "$T/rootfs"
	chown -R user "$T/rootfs"
	OWN=(--root "$T/storage/root" --runroot "$T/storage/run")
}

@test "who has no cgroups of their own can run containers, with limits, as the guest holds them; what only the host could hold is refused" {
	own_storage
	# Without a session there is no systemd to ask, and the tests' own cgroup belongs to root.
	no_session() {
		as_user timeout --foreground "$DEADLINE" env -u DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR="$T/run" \
			podman "${OWN[@]}" --cgroup-manager cgroupfs --runtime "$RUNCH" "$@" 3>&-
	}
	undo "no_session rm --all --force --time 0; no_session system migrate"
	no_session run -d --name "$NAME" --network none --memory 64m --rootfs "$T/rootfs" sleep 1000
	local pid
	pid=$(no_session inspect --format '{{.State.Pid}}' "$NAME")
	same "$(<"/proc/$pid/cgroup")" "$(</proc/self/cgroup)"
	same "$(no_session exec "$NAME" cat /sys/fs/cgroup/memory.max)" $((64 << 20))
	no_session update --memory 96m "$NAME"
	same "$(no_session exec "$NAME" cat /sys/fs/cgroup/memory.max)" $((96 << 20))
	no_session rm --force --time 0 "$NAME"

	try no_session run --rm --name "$NAME" --network none --cpuset-cpus 0 --rootfs "$T/rootfs" true
	same "$status" 126
	[[ $stderr == *"linux.resources.cpu.cpus is held by a cgroup on the host: "*"loginctl enable-linger USER"* ]]
	same "$(find "$T/run/runch" -mindepth 1)" ""
}

@test "a podman that manages cgroups by itself gets one beside its own" {
	as_user timeout --foreground "$DEADLINE" podman --cgroup-manager cgroupfs --runtime "$RUNCH" \
		run -d --name "$NAME" --network none "$IMAGE" sleep 1000 3>&-
	local pid id
	pid=$(as_user podman inspect --format '{{.State.Pid}}' "$NAME")
	id=$(as_user podman inspect --format '{{.Id}}' "$NAME")
	same "$(<"/proc/$pid/cgroup")" "0::/user.slice/user-1000.slice/user@1000.service/user.slice/runch-$id"
	as_user podman --cgroup-manager cgroupfs rm --force --time 0 "$NAME"
	same "$(find /sys/fs/cgroup -name "runch-$id")" ""
	none_left
}

@test "who has no subordinate ids can run containers that have one owner" {
	mv /etc/subuid /etc/subuid.away
	undo 'mv /etc/subuid.away /etc/subuid; as_user podman system migrate'
	as_user podman system migrate
	own_storage
	try podman_does "${OWN[@]}" run --rm --network none --rootfs "$T/rootfs" sh -c 'id -u; cat /proc/self/uid_map | xargs'
	same "$status $output" $'0 0\n0 0 4294967295'
}

@test "without the kernel's modules for it localhost leads nowhere, and nothing else is missing; --debug says why" {
	mkdir -p /run/modprobe.d
	echo 'install nft_tproxy /bin/false' >/run/modprobe.d/lab-test.conf
	undo 'rm /run/modprobe.d/lab-test.conf'
	modprobe --remove nft_tproxy 2>/dev/null || rmmod nft_tproxy || true
	podman_does --runtime-flag debug run -d --name "$NAME" --hostname "$NAME" -p 8080:80 "$IMAGE" sh -c "$WEB"
	serves world 198.51.100.2:8080
	run ! page host 127.0.0.1:8080
	# The runtime's debug lines are in the container's log, before the container's output.
	as_user podman logs "$NAME" 2>&1 | grep 'not reached by localhost of its network namespace.*netfilter rules'
	as_user podman rm --force --time 0 "$NAME"
	none_left
}

@test "runch by itself, without root and without a user namespace, says what it needs" {
	mkdir "$T/bundle"
	cp "$TESTS/config.json" "$T/bundle"
	mkdir "$T/bundle/rootfs"
	chown -R user "$T/bundle"
	try as_user "$RUNCH" run --bundle "$T/bundle" "$NAME"
	same "$status" 1
	[[ $stderr == *"mounts and namespaces are for root, here or in a user namespace: "*"podman unshare"* ]]
	same "$(grep -c . <<<"$stderr")" 1
	try as_user "$RUNCH" check
	[[ $output =~ privileges\ +MISSING\ [^$'\n']*user\ namespace[^$'\n']*$'\n'\ +fix\ with:\ podman\ unshare\ runch\ check ]]
}
