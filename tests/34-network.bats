#!/usr/bin/env bats
# Changes of a running container's network: links are added to its network namespace, removed or replaced. `runch
# network` shows the guest's interfaces and brings them up to date. Each kind of link that a CNI plugin makes carries a
# ping and a TCP stream, both ways, between the guest and the network namespace $FAR at the other end.
#
# All tests share one container, which has one link from the start: eth0, 10.99.0.2.

load helpers

setup_file() {
	needs_vm
	share
	export NETNS=${T##*/} FAR=${T##*/}-far
	ip netns add "$NETNS"
	ip netns add "$FAR"
	ip -n "$FAR" link set lo up
	veth eth0 10.99.0 mtu 1400
	bundle
	config --arg path "/run/netns/$NETNS" '(.linux.namespaces[] | select(.type == "network")).path = $path |
		.process.capabilities |= map_values(. + ["CAP_NET_RAW", "CAP_NET_ADMIN"])'
	args workload tally '[::]:7001'
	launch
	# The server for the streams that the guest sends.
	ip netns exec "$FAR" "$WORKLOAD" tally '[::]:7002' </dev/null >"$T/far" 2>&1 3>&- &
	export TALLY_PID=$!
	eventually 20 says serving "$T/far"
	eventually 20 says serving "$B/stdout"
	shared
}

teardown_file() {
	[ -z "${TALLY_PID:-}" ] || kill "$TALLY_PID" || true
	ROOT=${SHARED:-$T}/root
	[ -z "${SHARED_ID:-}" ] || runch delete --force "$SHARED_ID"
	ip netns delete "$NETNS" || true
	ip netns delete "$FAR" || true
	unshare_all
}

setup() {
	begin
}

# Remove all links that the test has left, so that the guest has only eth0 again.
teardown() {
	local link
	for link in $(ip -n "$NETNS" -j link | jq -r '.[].ifname' | grep -v -e '^lo$' -e '^eth0$' -e '^runch'); do
		ip -n "$NETNS" link delete "$link" || true
	done
	ip -n "$FAR" link delete parent 2>/dev/null || true
	runch network add "$SHARED_ID"
	finish
}

# veth NAME NET [WORD...]: adds a veth with the addresses NET.2 and fd00:NET::2. The other end, in $FAR, has NET.1 and
# fd00:NET::1.
veth() {
	ip -n "$NETNS" link add "$1" "${@:3}" type veth peer name "$1" netns "$FAR"
	addresses "$1" "$2" "$1"
}

# addresses NAME NET FAR-NAME: gives these addresses to a link and to its counterpart in $FAR, and sets both up.
addresses() {
	local six=fd00:${2//./:}
	ip -n "$NETNS" address add "$2.2/24" dev "$1"
	ip -n "$NETNS" address add "$six::2/64" dev "$1" nodad
	ip -n "$NETNS" link set "$1" up
	ip -n "$FAR" address add "$2.1/24" dev "$3"
	ip -n "$FAR" address add "$six::1/64" dev "$3" nodad
	ip -n "$FAR" link set "$3" up
}

# siblings KIND [WORD...]: makes two links of that kind on one parent in $FAR. Both are called new0; one is moved into
# the container's namespace.
siblings() {
	ip -n "$FAR" link add parent type veth peer name parent-peer
	ip -n "$FAR" link set parent up
	ip -n "$FAR" link set parent-peer up
	ip -n "$FAR" link add link parent name new0 type "$@"
	ip -n "$FAR" link set new0 netns "$NETNS"
	ip -n "$FAR" link add link parent name new0 type "$@"
	addresses new0 10.99.1 new0
}

# needs_kind KIND [WORD...]: skips the test where the host's kernel does not know links of that kind.
needs_kind() {
	try ip -n "$FAR" link add link lo name runch-probe type "$@"
	[[ $stderr != *"Unknown device type"* ]] || skip "this host's kernel has no links of the kind $1"
	ip -n "$FAR" link delete runch-probe 2>/dev/null || true
}

# tries NET: expects that the guest and $FAR reach each other by the addresses of both families.
tries() {
	local six=fd00:${1//./:} sent
	sent="1000000 $("$WORKLOAD" pattern 1000000 | sha256sum | cut -d ' ' -f 1)"
	far busybox ping -c 1 -W 10 "$1.2"
	execute ping -c 1 -W 10 "$1.1"
	execute ping6 -c 1 -W 10 "$six::1"
	same "$(far sh -c "'$WORKLOAD' pattern 1000000 | '$WORKLOAD' send '[$six::2]:7001'")" "$sent"
	same "$(execute sh -c "workload pattern 1000000 | workload send $1.1:7002")" "$sent"
}

# far COMMAND...: runs the command in $FAR.
far() {
	timeout --kill-after=5 "${DEADLINE:-120}" ip netns exec "$FAR" "$@" 3>&-
}

# interface NAME JQ-FILTER: prints the filter's result for the guest's interface in the output of `ls`.
interface() {
	runch network ls --format json "$ID" | jq -r --arg name "$1" ".[] | select(.name == \$name) | $2"
}

# names: prints the names of the guest's interfaces, by `ls`.
names() {
	runch network ls "$ID" --format json | jq -r '.[].name' | xargs
}

# bare LINK: expects that the link has no qdisc of runch and no tap.
bare() {
	local index
	index=$(ip -n "$NETNS" -j link show "$1" | jq '.[0].ifindex')
	same "$(ip netns exec "$NETNS" tc qdisc show dev "$1" ingress)" ""
	run ! ip -n "$NETNS" link show "runch$index"
}

# added_and_removed: adds the link new0 to the running guest, tries it, and removes it.
added_and_removed() {
	same "$(names)" eth0
	runch network add "$ID"
	same "$(names)" "eth0 new0"
	tries 10.99.1
	runch network remove "$ID" new0
	same "$(names)" eth0
	bare new0
	run ! execute ip link show new0
}

@test "ls shows what the guest has, beside the link and the tap on the host, as text and as JSON" {
	local mac index
	mac=$(ip -n "$NETNS" -j link show eth0 | jq -r '.[0].address')
	index=$(ip -n "$NETNS" -j link show eth0 | jq -r '.[0].ifindex')
	try runch network ls "$ID"
	same "$status" 0
	[[ $output == NAME*MAC*MTU*ADDRESSES*LINK*TAP*"eth0 "*"$mac "*"1400 "*"10.99.0.2/24,"*"eth0 "*"runch$index" ]]
	same "$(runch network ls --format json "$ID" | jq -c '.[].addresses |= map(select(startswith("fe80:") | not))')" \
		"[{\"name\":\"eth0\",\"mac\":\"$mac\",\"mtu\":1400,\"addresses\":[\"10.99.0.2/24\",\"fd00:10:99::2/64\"],\"link\":\"eth0\",\"tap\":\"runch$index\",\"stale\":false}]"
}

@test "what the container has changed by itself is shown, and add renews it" {
	execute ip address add 10.99.0.77/24 dev eth0
	execute ip link set eth0 mtu 1200
	same "$(interface eth0 '.mtu, (.addresses | index("10.99.0.77/24") != null)' | xargs)" "1200 true"
	runch network add "$ID"
	same "$(interface eth0 '.mtu, (.addresses | index("10.99.0.77/24") != null)' | xargs)" "1400 false"
}

@test "a veth of the boot carries a ping and TCP streams" {
	tries 10.99.0
}

@test "a veth comes and goes while the guest runs" {
	veth new0 10.99.1
	added_and_removed
}

@test "a macvlan comes and goes" {
	siblings macvlan mode bridge
	added_and_removed
}

@test "an ipvlan of layer 2 comes and goes" {
	needs_kind ipvlan
	siblings ipvlan mode l2
	added_and_removed
}

# bats test_tags=lab
@test "an ipvlan of layer 3 comes and goes" {
	needs_kind ipvlan
	siblings ipvlan mode l3
	added_and_removed
}

@test "a vlan comes and goes" {
	needs_kind vlan id 5
	ip -n "$FAR" link add parent type veth peer name parent-peer
	ip -n "$FAR" link set parent up
	ip -n "$FAR" link set parent-peer up
	ip -n "$FAR" link add link parent name new0 type vlan id 5
	ip -n "$FAR" link set new0 netns "$NETNS"
	ip -n "$FAR" link add link parent-peer name new0 type vlan id 5
	addresses new0 10.99.1 new0
	added_and_removed
}

@test "a tap that another program serves comes and goes" {
	helper ip netns exec "$NETNS" socat "UNIX-LISTEN:$T/tap,type=5" TUN,tun-type=tap,tun-name=new0,iff-no-pi,iff-up </dev/null
	eventually 5 test -S "$T/tap"
	helper ip netns exec "$FAR" socat "UNIX-CONNECT:$T/tap,type=5" TUN,tun-type=tap,tun-name=new0,iff-no-pi,iff-up </dev/null
	eventually 5 ip -n "$NETNS" link show new0
	eventually 5 ip -n "$FAR" link show new0
	addresses new0 10.99.1 new0
	added_and_removed
}

# bats test_tags=lab
@test "a dummy comes and goes: its addresses are the guest's, and what the guest sends is counted on it" {
	needs_kind dummy
	ip -n "$NETNS" link add new0 type dummy
	ip -n "$NETNS" address add 10.99.1.2/24 dev new0
	ip -n "$NETNS" link set new0 up
	runch network add "$ID" new0
	execute ping -c 1 -W 10 10.99.1.2
	local before
	before=$(sent_by new0)
	run ! execute ping -c 1 -W 1 10.99.1.9
	[ "$(sent_by new0)" -gt "$before" ]
	runch network remove "$ID" new0
	bare new0
}

# sent_by LINK: prints how many packets the host has sent by the link.
sent_by() {
	ip -n "$NETNS" -s -j link show "$1" | jq '.[0].stats64.tx.packets'
}

@test "routes with metrics, neighbours, addresses and MTU are what they are on the host, and again after a change" {
	veth new0 10.99.1 mtu 1500
	ip -n "$NETNS" route add 10.77.0.0/16 via 10.99.1.1 metric 300
	ip -n "$NETNS" -6 route add fd00:77::/32 via fd00:10:99:1::1 metric 400
	ip -n "$NETNS" neighbour add 10.99.1.9 lladdr 02:00:00:00:00:99 dev new0 nud permanent
	runch network add "$ID" new0
	says_in_guest "10.77.0.0/16 via 10.99.1.1 dev new0 .*metric 300" ip route
	says_in_guest "fd00:77::/32 via fd00:10:99:1::1 dev new0 .*metric 400" ip -6 route
	says_in_guest "10.99.1.9 .*02:00:00:00:00:99 .*PERMANENT" ip neigh show dev new0
	same "$(interface new0 .mtu)" 1500
	# A smaller MTU is set on the same interface; a larger one needs a new interface.
	ip -n "$NETNS" link set new0 mtu 1300
	ip -n "$FAR" link set new0 mtu 1300
	ip -n "$NETNS" route del 10.77.0.0/16 metric 300
	ip -n "$NETNS" route add 10.77.0.0/16 via 10.99.1.1 metric 301
	ip -n "$NETNS" neighbour del 10.99.1.9 dev new0
	ip -n "$NETNS" address add 10.99.1.3/24 dev new0
	runch network add "$ID"
	says_in_guest "10.77.0.0/16 via 10.99.1.1 dev new0 .*metric 301" ip route
	run ! says_in_guest "metric 300" ip route
	run ! says_in_guest "02:00:00:00:00:99" ip neigh show dev new0
	same "$(interface new0 '.mtu, (.addresses | index("10.99.1.3/24") != null)' | xargs)" "1300 true"
	ip -n "$NETNS" link set new0 mtu 9000
	ip -n "$FAR" link set new0 mtu 9000
	runch network add "$ID"
	same "$(interface new0 .mtu)" 9000
	# A ping in frames of that size, which are not fragmented.
	far busybox ping -c 1 -W 10 -s 8900 10.99.1.2
	tries 10.99.1
}

# says_in_guest PATTERN COMMAND...: whether the command's output in the guest matches the pattern.
says_in_guest() {
	execute "${@:2}" | grep -E "$1"
}

@test "a link that is gone is stale, and add unplugs what is left of it" {
	veth new0 10.99.1
	runch network add "$ID"
	ip -n "$NETNS" link delete new0
	same "$(interface new0 .stale)" true
	[[ $(runch network ls "$ID") == *"new0 (stale)"* ]]
	runch network add "$ID"
	same "$(names)" eth0
	same "$(ip -n "$NETNS" -j link | jq -r '.[].ifname' | grep -c '^runch')" 1
}

@test "a link that is gone can be removed by its name" {
	veth new0 10.99.1
	runch network add "$ID"
	ip -n "$NETNS" link delete new0
	runch network remove "$ID" new0
	same "$(names)" eth0
}

@test "a link that is replaced, with the same name and hardware address, as by network disconnect and connect" {
	local mac
	veth new0 10.99.1
	runch network add "$ID"
	mac=$(interface new0 .mac)
	ip -n "$NETNS" link delete new0
	veth new0 10.99.1 address "$mac"
	same "$(interface new0 .stale)" true
	runch network add "$ID"
	same "$(interface new0 '.mac, .stale' | xargs)" "$mac false"
	tries 10.99.1
}

@test "the last network can be removed, and added again" {
	runch network remove "$ID" eth0
	same "$(runch network ls --format json "$ID")" "[]"
	bare eth0
	same "$(execute ls /sys/class/net | xargs)" lo
	# Meanwhile the host's network stack answers on the link, and the container goes on.
	far busybox ping -c 1 -W 10 10.99.0.2
	runch network add "$ID" eth0
	tries 10.99.0
}

@test "what cannot be done is said, and changes nothing" {
	try runch network add nobody
	same "$status" 1
	[[ $stderr == *"container does not exist"* ]]
	try runch network ls nobody
	[[ $stderr == *"container does not exist"* ]]
	try runch network add "$ID" eth7
	same "$status" 1
	[[ $stderr == *"link eth7: not in the container's network namespace"* ]]
	try runch network remove "$ID" eth0 eth7
	same "$status" 1
	[[ $stderr == *"link eth7: the guest has no interface for it"* ]]
	try runch network remove "$ID"
	same "$status" 1
	[[ $stderr == *"requires a minimum of 2"* ]]
	try runch network ls --format xml "$ID"
	same "$status" 1
	same "$(names)" eth0
}

@test "a container that has stopped has no network to change" {
	own
	args true
	launch
	same "$(exit_status "$PID")" 0
	for verb in ls add; do
		try runch network "$verb" "$ID"
		same "$status" 1
		[[ $stderr == *"container not running"* ]]
	done
	runch delete "$ID"
}

@test "more links than the VM has slots for: the message says how many there are, and none of them stays" {
	[ "$RUNCH_TEST_LONG" = 1 ] || skip "five interfaces that come and go (RUNCH_TEST_LONG=1)"
	local n
	for n in 1 2 3 4 5; do
		veth "new$n" "10.99.$n"
	done
	try runch network add "$ID"
	same "$status" 1
	[[ $stderr == *"no free hot-plug slot: the VM was booted with 4"* ]]
	same "$(names)" eth0
	runch network add "$ID" new1 new2 new3 new4
	tries 10.99.4
	runch network remove "$ID" new2
	runch network add "$ID" new5
	tries 10.99.5
}
