#!/usr/bin/env bats
# Hooks, in the runtime specification's order and with the state on their standard input. And the network namespace:
# callers set it up before create, in a hook, or between create and start, and clear it before the container has ended.

load helpers

setup() {
	begin
	export RUNCH_TEMPLATES=never # in these VMs the links are there at the boot, also without KVM
	NETNS=${T##*/}
}

# Delete the namespace after the container and before finish looks for leftovers: it is named after the test.
teardown() {
	[ ! -d "$ROOT" ] || runch list --quiet | xargs -r -n 1 "$RUNCH" --root "$ROOT" delete --force
	ip netns delete "$NETNS" 2>/dev/null || true
	finish
}

# hook NAME SCRIPT: adds a hook that runs this shell script on the host. The state is on its stdin.
hook() {
	config '.hooks[$ARGS.positional[0]] += [{"path": "/bin/sh", "args": ["sh", "-c", $ARGS.positional[1]],
		"env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]' --args -- "$@"
}

# namespace: makes a network namespace with a link, as a CNI plugin does: 10.99.0.2, with a gateway.
namespace() {
	ip netns add "$NETNS"
	plug eth0 10.99.0.2/24
	ip -n "$NETNS" route add default via 10.99.0.1
}

# plug LINK ADDRESS: adds a link to the namespace. Its peer is in the same namespace, so that nothing is added to the
# host's own network.
plug() {
	ip -n "$NETNS" link add "$1" mtu 1400 type veth peer name "peer-$1"
	ip -n "$NETNS" addr add "$2" dev "$1"
	ip -n "$NETNS" link set "$1" up
	ip -n "$NETNS" link set "peer-$1" up
}

# in_namespace: puts the container into that namespace.
in_namespace() {
	config --arg path "/run/netns/$NETNS" '(.linux.namespaces[] | select(.type == "network")).path = $path'
}

# bats test_tags=contract:21
@test "hooks run in the specification's order, each with the state on its stdin" {
	bundle
	local name
	for name in prestart createRuntime createContainer poststart poststop; do
		hook "$name" "echo $name 1 >>$T/order; cat >$T/$name.json"
		hook "$name" "echo $name 2 >>$T/order"
	done
	# startContainer hooks run in the container: the path and the files are the container's.
	config '.hooks.startContainer = [{"path": "/bin/sh", "args": ["sh", "-c", "cat >/startContainer.json; hostname >/startContainer"]}]'
	script '[ -e /startContainer ] && exec sleep 1000'
	create
	same "$(xargs <"$T/order")" "prestart 1 prestart 2 createRuntime 1 createRuntime 2 createContainer 1 createContainer 2"
	[ ! -e "$B/rootfs/startContainer" ]
	runch start "$ID"
	same "$(tail -n 2 "$T/order" | xargs)" "poststart 1 poststart 2"
	# start returns when the program may run. The hook runs right before the program.
	eventually 5 test -s "$B/rootfs/startContainer"
	same "$(<"$B/rootfs/startContainer")" guest
	runch kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	run ! grep poststop "$T/order"
	runch delete "$ID"
	same "$(tail -n 2 "$T/order" | xargs)" "poststop 1 poststop 2"

	for name in prestart createRuntime createContainer poststart; do
		jq -e --arg id "$ID" --argjson pid "$PID" --arg bundle "$B" \
			'.id == $id and .pid == $pid and .bundle == $bundle and (.ociVersion | length > 0)' "$T/$name.json"
	done
	same "$(jq -r .status "$T/prestart.json" "$T/createRuntime.json" "$T/poststart.json" "$T/poststop.json" | xargs)" \
		"creating creating running stopped"
	same "$(jq -r .id "$T/poststop.json" "$B/rootfs/startContainer.json" | xargs)" "$ID $ID"
	same "$(jq -r .bundle "$T/poststop.json" "$B/rootfs/startContainer.json" | xargs)" "$B $B"
}

# bats test_tags=contract:21
@test "a hook that fails before the container runs ends its making, with the hook's name and number" {
	bundle
	local name
	for name in prestart createRuntime createContainer; do
		config 'del(.hooks)'
		hook "$name" true
		hook "$name" 'echo its words >&2; exit 3'
		try runch create --bundle "$B" --pid-file "$B/pid" "$ID"
		same "$status" 1
		[[ $stderr == *"error running $name hook #1"*"its words"* ]]
		clean
	done
}

@test "a hook that takes longer than its timeout is ended" {
	bundle
	hook prestart 'exec sleep 1000'
	config '.hooks.prestart[0].timeout = 1'
	within 10000 try runch create --bundle "$B" "$ID"
	same "$status" 1
	[[ $stderr == *"prestart hook #0"* ]]
	clean
}

@test "what a namespace has before create is in the guest: addresses, routes, MAC and MTU" {
	bundle
	namespace
	in_namespace
	local mac
	mac=$(ip -n "$NETNS" -j link show eth0 | jq -r '.[0].address')
	script 'ip -o -4 addr show eth0; ip route; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu'
	try runch run --bundle "$B" "$ID"
	same "$status" 0
	[[ $output == *"10.99.0.2/24"*"default via 10.99.0.1"*"$mac"*1400 ]]
	# Nothing of runch is left in the namespace.
	same "$(ip -n "$NETNS" -j link | jq -r '.[].ifname' | sort | xargs)" "eth0 lo peer-eth0"
	same "$(ip netns exec "$NETNS" tc qdisc show dev eth0 ingress)" ""
}

# bats test_tags=contract:21
@test "what a createRuntime hook puts into the namespace is in the guest" {
	bundle
	# The hook finds the namespace that the runtime has made by the pid in the state.
	hook createRuntime 'pid=$(jq .pid) && in="nsenter --target $pid --net" && $in ip link add eth0 type veth peer name peer &&
		$in ip addr add 10.99.1.2/24 dev eth0 && $in ip link set eth0 up && $in ip link set peer up'
	script 'ip -o -4 addr show eth0'
	try runch run --bundle "$B" "$ID"
	same "$status" 0
	[[ $output == *"10.99.1.2/24"* ]]
}

# bats test_tags=contract:21
@test "what the caller puts into the namespace between create and start is in the guest" {
	bundle
	script 'ip -o -4 addr show eth0; ip -o -4 addr show eth1'
	namespace
	in_namespace
	create
	same "$(readlink "/proc/$PID/ns/net")" "net:[$(stat -L -c %i "/run/netns/$NETNS")]"
	plug eth1 10.99.2.2/24
	runch start "$ID"
	same "$(exit_status "$PID")" 0
	says 10.99.0.2/24 "$B/stdout"
	says 10.99.2.2/24 "$B/stdout"
	runch delete "$ID"
}

# bats test_tags=lab
@test "a container talks with the other side of its link" {
	bundle
	namespace
	in_namespace
	# The peer has an address, in a namespace of its own.
	ip netns add "$NETNS-far"
	ip -n "$NETNS" link set peer-eth0 netns "$NETNS-far"
	ip -n "$NETNS-far" addr add 10.99.0.1/24 dev peer-eth0
	ip -n "$NETNS-far" link set peer-eth0 up
	helper ip netns exec "$NETNS-far" "$WORKLOAD" serve 10.99.0.1:80 </dev/null >"$T/served"
	eventually 5 says serving "$T/served"
	args workload fetch 10.99.0.1:80
	try runch run --bundle "$B" "$ID"
	kill "$helper"
	ip netns delete "$NETNS-far"
	same "$status" 0
	same "$output" "hello 10.99.0.2"
}

# bats test_tags=contract:22
@test "links that are taken away under a running container, or the whole namespace, do not keep it from kill and delete" {
	bundle
	namespace
	in_namespace
	args sleep 1000
	launch
	# As CNI's DEL does, before the container is stopped.
	ip -n "$NETNS" link delete eth0
	ip netns delete "$NETNS"
	same "$(execute echo alive)" alive
	runch kill "$ID" TERM
	runch kill "$ID" KILL
	same "$(exit_status "$PID" 5)" 137
	runch delete "$ID"
	gone
}

# bats test_tags=contract:27
@test "the host's own network namespace is refused, whatever the way to it" {
	needs_vm
	bundle
	config '(.linux.namespaces[] | select(.type == "network")).path = "/proc/self/ns/net"'
	try runch create --bundle "$B" "$ID"
	same "$status" 1
	[[ $stderr == *"network"* ]]
	config '.linux.namespaces |= map(select(.type != "network"))'
	try runch create --bundle "$B" "$ID"
	same "$status" 1
	[[ $stderr == *"network"* ]]
	clean
}

# bats test_tags=lab,contract:16
@test "on a host with systemd: a container made with --systemd-cgroup is in its scope, and other verbs need not be told" {
	[ -d /run/systemd/system ] || skip "systemd does not run on this host"
	bundle
	config --arg path "system.slice:runch-test:$ID" '.linux.cgroupsPath = $path'
	args sleep 1000
	runch --systemd-cgroup create --bundle "$B" --pid-file "$B/pid" "$ID" </dev/null >"$B/stdout" 2>"$B/stderr"
	PID=$(<"$B/pid")
	grep -F "/system.slice/runch-test-$ID.scope" "/proc/$PID/cgroup"
	runch start "$ID"
	same "$(execute echo yes)" yes
	runch pause "$ID"
	runch resume "$ID"
	runch kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	runch delete "$ID"
	run ! systemctl is-active --quiet "runch-test-$ID.scope"
}
