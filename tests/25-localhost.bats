#!/usr/bin/env bats
# Relays. A process that enters a container's network namespace on the host and connects to 127.0.0.1 or ::1 reaches the
# listener in the guest, as port-forwarding needs. So does a connection to the container's own address, as rootless port
# publishing needs. Programs that listen in that namespace on the host are not disturbed, and nothing is left in it when
# the container is gone.

load helpers

setup_file() {
	needs_vm
	share
	bundle
	args sh -c 'workload tally 127.0.0.1:7001 & workload tally [::1]:7002 & workload listener 127.0.0.1:7003 & exec workload serve 127.0.0.1:7004'
	launch
	shared
	B=$SHARED/bundle eventually 20 serving 4
}

teardown_file() {
	unshare_all
}

setup() {
	begin
	NETNS=${T##*/}
}

teardown() {
	local id
	if [ -e "/run/netns/$NETNS" ]; then
		for id in $(runch list --quiet); do
			[ "$id" = "$SHARED_ID" ] || runch delete --force "$id"
		done
		ip netns delete "$NETNS"
	fi
	finish
}

# serving COUNT: whether so many listeners of the container have started.
serving() {
	[ "$(grep -c '^serving' "$B/stdout")" = "$1" ]
}

# on_host COMMAND...: runs a command of the host in the container's network namespace on the host.
on_host() {
	timeout --kill-after=5 "${DEADLINE:-120}" nsenter --net="/proc/$PID/ns/net" "$@" 3>&-
}

# forward VERB ADDRESS...: runs a client there.
forward() {
	on_host "$WORKLOAD" "$@"
}

# refused ADDRESS: expects a connection to the address to be refused.
refused() {
	try forward fetch "$1"
	[ "$status" -ne 0 ]
	[[ $stderr == *"connection refused"* ]]
}

# namespace: makes a network namespace, as a caller does, and puts the container into it.
namespace() {
	[ -e "/run/netns/$NETNS" ] || ip netns add "$NETNS"
	ip -n "$NETNS" link set lo up
	config --arg path "/run/netns/$NETNS" '(.linux.namespaces[] | select(.type == "network")).path = $path'
}

# rules: prints the netfilter rules in it.
rules() {
	ip netns exec "$NETNS" nft list ruleset
}

no_rules() {
	[ -z "$(rules)" ]
}

# tallied COMMAND...: prints what a tally answers to the command's output.
tallied() {
	"$@" | "$WORKLOAD" count
}

# answers ADDRESS: expects that a tally answers at the address.
answers() {
	same "$(echo question | forward send "$1")" "$(tallied echo question)"
}

@test "127.0.0.1 and ::1 of the namespace are the guest's where it listens, and refused where it does not" {
	answers 127.0.0.1:7001
	answers '[::1]:7002'
	refused 127.0.0.1:7002
	refused '[::1]:7001'
	refused 127.0.0.1:7999
	refused 127.0.0.2:7001
}

# bats test_tags=lab
@test "the end of one direction leaves the other open, whoever ends first" {
	answers 127.0.0.1:7001
	same "$(echo answer | forward reply 127.0.0.1:7003)" listening
	eventually 10 says "heard answer" "$SHARED/bundle/stdout"
	same "$(forward fetch 127.0.0.1:7004)" "hello 127.0.0.1"
}

@test "100 connections at once" {
	forward crowd 127.0.0.1:7001 100
}

@test "16 MiB arrive as they were sent, both ways" {
	local size=$((16 << 20))
	same "$("$WORKLOAD" pattern $size | forward send 127.0.0.1:7001)" "$(tallied "$WORKLOAD" pattern $size)"
	background source "$ID" sh -c "workload pattern $size | nc -l -p 7005"
	eventually 20 received
	same "$("$WORKLOAD" count <"$T/received")" "$(tallied "$WORKLOAD" pattern $size)"
}

# received: stores what the listener at port 7005 sends. It fails until there is one.
received() {
	forward fetch 127.0.0.1:7005 >"$T/received"
}

@test "what listens in the namespace on the host is left alone, and comes first" {
	helper nsenter --net="/proc/$PID/ns/net" "$WORKLOAD" serve 127.0.0.1:7001
	eventually 10 host_answers
	kill "$helper"
	eventually 10 answers 127.0.0.1:7001
}

host_answers() {
	[ "$(forward fetch 127.0.0.1:7001)" = "hello 127.0.0.1" ]
}

@test "a container in its caller's namespace: its own addresses lead there; nothing is left after delete, nor when the holder is killed" {
	own
	namespace
	ip -n "$NETNS" link add eth0 type veth peer name peer
	ip -n "$NETNS" address add 198.51.100.2/24 dev eth0
	ip -n "$NETNS" address add 2001:db8:5::2/64 dev eth0 nodad
	ip -n "$NETNS" link set eth0 up
	ip -n "$NETNS" link set peer up
	args sh -c 'workload tally 198.51.100.2:7002 & workload tally [2001:db8:5::2]:7003 & exec workload tally 127.0.0.1:7001'
	launch
	eventually 20 serving 3
	answers 127.0.0.1:7001
	answers 198.51.100.2:7002
	answers '[2001:db8:5::2]:7003'
	# A program that listens at one address only is not reached at another.
	refused 198.51.100.2:7001
	refused 127.0.0.1:7002
	rules | grep -q 'table inet runch'
	runch delete --force "$ID"
	same "$(rules)" ""

	launch
	eventually 20 serving 3
	answers 198.51.100.2:7002
	kill -KILL "$PID"
	same "$(exit_status "$PID" 10)" 137
	eventually 5 no_rules
	try ip netns exec "$NETNS" "$WORKLOAD" fetch 127.0.0.1:7001
	[[ $stderr == *"connection refused"* ]]
}

# member NAME: makes the bundle of a member of the pod $POD, which has no infra container.
member() {
	ID=$POD-$1 B=$T/$1.bundle
	bundle
	namespace
	config --arg pod "$POD" '.annotations += {"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": $pod}'
}

@test "a pod: each member is reached at the pod's localhost, also when another has ended" {
	POD=$NETNS
	member a
	args workload tally 127.0.0.1:7001
	launch
	eventually 20 serving 1
	member b
	args workload tally '[::1]:7002'
	launch
	eventually 20 serving 1
	answers 127.0.0.1:7001
	answers '[::1]:7002'
	runch delete --force "$POD-a"
	eventually 5 refused 127.0.0.1:7001
	answers '[::1]:7002'
	runch delete --force "$POD-b"
	same "$(rules)" ""
}

# dns ADDRESS: starts a name server at this address in the namespace, on the host.
dns() {
	helper ip netns exec "$NETNS" dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv --user=root --pid-file= \
		--listen-address="$1" --bind-interfaces --address=/host.test/192.0.2.9
	eventually 10 ip netns exec "$NETNS" socat -u OPEN:/dev/null "TCP4:$1:53"
}

@test "a name server at another loopback address, on the host's side of the namespace, is asked for the container" {
	own
	namespace
	printf 'nameserver 127.0.0.11\n' >"$T/resolv.conf"
	config --arg source "$T/resolv.conf" '.mounts += [{destination: "/etc/resolv.conf", type: "bind", source: $source, options: ["bind"]}]'
	args sleep 100000
	create
	# docker starts its name server between create and start, too.
	dns 127.0.0.11
	runch start "$ID"
	same "$(execute workload names host.test)" "$(printf 'udp [192.0.2.9]\ntcp [192.0.2.9]')"
	execute nslookup host.test 127.0.0.11 | grep -q 192.0.2.9
	# No other port on the host's side can be reached like this.
	helper ip netns exec "$NETNS" "$WORKLOAD" serve 127.0.0.11:80
	eventually 10 ip netns exec "$NETNS" "$WORKLOAD" fetch 127.0.0.11:80
	try execute workload fetch 127.0.0.11:80
	[[ $stderr == *"connection refused"* ]]
	# When the server has ended, lookups get no answer.
	kill "${HELPERS[0]}"
	eventually 5 dead "${HELPERS[0]}"
	run ! execute nslookup host.test 127.0.0.11
}

@test "a name server that is not on the host's side is the container's own affair" {
	own
	namespace
	printf 'nameserver 127.0.0.53\n' >"$T/resolv.conf"
	config --arg source "$T/resolv.conf" '.mounts += [{destination: "/etc/resolv.conf", type: "bind", source: $source, options: ["bind"]}]'
	args workload serve 127.0.0.53:53
	launch
	eventually 20 serving 1
	same "$(execute workload fetch 127.0.0.53:53)" "hello 127.0.0.1"
}
