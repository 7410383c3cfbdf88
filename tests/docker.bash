#!/bin/bash
# A docker of the suite's own. The daemon is in a network namespace, $MACHINE, with its bridges, firewall rules and
# published ports. A veth connects that with another namespace, $OUTSIDE, which stands for the rest of the world: it has
# a web server, and the name server that the daemon uses. All of docker's files are in $SHARED. So this docker neither
# needs nor disturbs another one on the machine.
#
#	dockerd_begin   for setup_file: sets all of that up, with an image
#	docker WORD...  runs the client
#	dockerd_end     for teardown_file: ends all of it; nothing may be left

load helpers
load lab/callers

# Other programs are called docker too; this is that of Debian's package docker.io.
DOCKER=/usr/bin/docker

# docker_known: sets VERSION to the installed version, and tells whether the tests are written for it.
docker_known() {
	export VERSION=none
	[ ! -x "$DOCKER" ] || VERSION=$("$DOCKER" --version | sed -n 's/^Docker version \([0-9]*[.][0-9]*\)[.].*/\1/p')
	[ "$VERSION" = 20.10 ] || [ "$VERSION" = 26.1 ]
}

# The addresses of $MACHINE and $OUTSIDE on the veth.
NEAR=198.51.100.2
WORLD=198.51.100.1

# dockerd_begin: sets up everything that the tests of a file share.
dockerd_begin() {
	share
	export MACHINE=${T##*/} OUTSIDE=${T##*/}-outside SERVERS=
	# The directory for the client's settings, of which there are none.
	export DOCKER_CONFIG=$T/client
	# docker passes this root directory to all runtimes that it starts by containerd's shim for runc.
	ROOT=$T/exec/runtime-runc/moby
	world
	setting runtimes "{\"runch\": {\"path\": \"$RUNCH\"}}"
	setting default-runtime '"runch"'
	# BuildKit does not use the default runtime. In version 20.10 it calls the first runc on PATH; later a variable
	# names the program.
	mkdir "$T/bin"
	if [ "$VERSION" = 20.10 ]; then
		ln -s "$RUNCH" "$T/bin/runc"
	else
		export DOCKER_BUILDKIT_RUNC_COMMAND=$RUNCH
	fi
	# docker lets systemd make its cgroups if it can.
	CGROUP_PARENT=/runch-test/$MACHINE
	! by_systemd || CGROUP_PARENT=$MACHINE.slice
	export CGROUP_PARENT
	shared
	dockerd
	docker_image
}

# by_systemd: whether docker lets systemd make its cgroups: with cgroup v2 if systemd runs.
by_systemd() {
	[ -d /run/systemd/system ] && [ -e /sys/fs/cgroup/cgroup.controllers ]
}

# world: makes the veth and starts the servers in $OUTSIDE.
world() {
	ip netns add "$MACHINE"
	ip netns add "$OUTSIDE"
	ip -n "$MACHINE" link add wire type veth peer name wire netns "$OUTSIDE"
	ip -n "$MACHINE" address add $NEAR/24 dev wire
	ip -n "$OUTSIDE" address add $WORLD/24 dev wire
	local namespace
	for namespace in "$MACHINE" "$OUTSIDE"; do
		ip -n "$namespace" link set lo up
		ip -n "$namespace" link set wire up
	done
	ip -n "$MACHINE" route add default via $WORLD
	server dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv --user=root --pid-file= \
		--listen-address=$WORLD --bind-interfaces --local=/world.test/ --address=/world.test/$WORLD
	mkdir "$T/www"
	echo "the world" >"$T/www/index.html"
	server busybox httpd -f -p $WORLD:80 -h "$T/www"
	eventually 10 outside socat -u OPEN:/dev/null TCP4:$WORLD:53
	eventually 10 outside socat -u OPEN:/dev/null TCP4:$WORLD:80
}

# server COMMAND...: starts a server in $OUTSIDE.
server() {
	nsenter --net="/run/netns/$OUTSIDE" -- "$@" >>"$T/servers" 2>&1 </dev/null 3>&- &
	SERVERS+=" $!"
}

# outside COMMAND..., on_machine COMMAND...: run the command in one of the two network namespaces.
outside() {
	nsenter --net="/run/netns/$OUTSIDE" -- "$@"
}

on_machine() {
	nsenter --net="/run/netns/$MACHINE" -- "$@"
}

# setting KEY JSON: changes the daemon's configuration. A running daemon reads it again at SIGHUP.
setting() {
	local file=${SHARED:-$T}/daemon.json
	[ -e "$file" ] || echo '{}' >"$file"
	jq --arg key "$1" --argjson value "$2" '.[$key] = $value' <"$file" >"$file.new"
	mv "$file.new" "$file"
}

# dockerd: starts the daemon, and waits until it answers.
dockerd() {
	PATH=$SHARED/bin:$PATH nsenter --net="/run/netns/$MACHINE" -- dockerd --config-file "$SHARED/daemon.json" --data-root "$SHARED/data" --exec-root "$SHARED/exec" \
		--host "unix://$SHARED/sock" --pidfile "$SHARED/pid" --dns $WORLD --cgroup-parent "$CGROUP_PARENT" \
		>>"$SHARED/log" 2>&1 </dev/null 3>&- &
	eventually 60 answers || {
		tail -n 20 "$SHARED/log" >&2
		return 1
	}
}

answers() {
	docker version >"$T/.version" 2>&1
}

# dockerd_stop: ends the daemon as its service does. Without live-restore the containers end with it.
dockerd_stop() {
	local pid
	pid=$(<"$SHARED/pid")
	kill -TERM "$pid"
	eventually 60 dead "$pid"
}

# docker WORD...: runs the client, with a deadline.
docker() {
	timeout --foreground --kill-after=5 "${DEADLINE:-120}" "$DOCKER" --host "unix://$SHARED/sock" "$@" 3>&-
}

# docker_image: imports an image of the busybox tree with the workload program.
docker_image() {
	cp -a "$RUNCH_ROOTFS/busybox" "$T/tree"
	cp "$WORKLOAD" "$T/tree/bin/"
	tar -C "$T/tree" -c . | docker import --change 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' - "$IMAGE" >/dev/null
	rm -rf "$T/tree"
}

# docker_begin: for setup.
docker_begin() {
	begin
	ROOT=$SHARED/exec/runtime-runc/moby
	docker version >/dev/null # fails if an earlier test has ended the daemon
}

# docker_finish: for teardown, removes everything by docker, which has to leave nothing.
docker_finish() {
	docker ps --all --quiet | xargs -r "$DOCKER" --host "unix://$SHARED/sock" rm --force --volumes >/dev/null
	docker network prune --force >/dev/null
	docker volume ls --quiet | xargs -r "$DOCKER" --host "unix://$SHARED/sock" volume rm >/dev/null
	if ! eventually 10 none_left; then
		left
		return 1
	fi
	finish
}

none_left() {
	[ -z "$(left)" ]
}

# left: lists what is left of containers that were removed. Network namespaces are not listed: docker cleans them up
# once a minute.
left() {
	leftovers | grep -v -F " $SHARED/data " || true
	grep -F "$SHARED/" /proc/self/mountinfo | grep -v -F -e "$SHARED/exec/netns/" -e " $SHARED/data " | sed 's/^/mount /'
	container_cgroups | sed 's/^/cgroup /'
	on_machine ip -o link | awk -F ': ' '{ print $2 }' | grep -v -x -e lo -e docker0 -e 'wire@.*' | sed 's/^/link /'
	find "$SHARED/data/containers" -mindepth 1 -maxdepth 1 | sed 's/^/file /'
}

# container_cgroups: prints the cgroups of containers, without BuildKit's own, which it keeps.
container_cgroups() {
	find /sys/fs/cgroup -ignore_readdir_race -depth -type d -path "*/$MACHINE*/*" ! -name buildkit
}

# dockerd_end: ends the daemon and the servers.
dockerd_end() {
	if [ -n "${SHARED:-}" ]; then
		[ ! -e "$SHARED/pid" ] || dockerd_stop
		# The daemon does not unmount its own network namespace, and after live-restore its data directory.
		umount "$SHARED/exec/netns/default"
		! mountpoint --quiet "$SHARED/data" || umount "$SHARED/data"
	fi
	local pid
	for pid in $SERVERS; do
		kill "$pid"
		eventually 10 dead "$pid"
	done
	ip netns delete "$MACHINE"
	ip netns delete "$OUTSIDE"
	if by_systemd; then
		systemctl stop "$MACHINE.slice"
	else
		find /sys/fs/cgroup -ignore_readdir_race -depth -type d -path "*/runch-test/$MACHINE*" -exec rmdir {} +
	fi
	unshare_all
}

# field NAME FORMAT: prints what docker inspect says of a container.
field() {
	docker inspect --type container --format "$2" "$1"
}

# is NAME STATUS: whether a container has this status.
is() {
	[ "$(field "$1" '{{.State.Status}}')" = "$2" ]
}

# docker_on_terminal WORD...: runs the client on a terminal of 33 rows and 99 columns.
docker_on_terminal() {
	on_terminal "stty rows 33 cols 99; timeout --foreground --kill-after=5 120 $DOCKER --host unix://$SHARED/sock $*"
}
