#!/usr/bin/env bats
# Pods of containerd's CRI plugin, by crictl in place of the kubelet: members in any order, volumes, probes and
# statistics. 28-kill-containerd.bats tests what happens when a process is killed.

load helpers
load kubelet

# bats test_tags=contract:29
@test "an init container ends before the members are made; they share names and network, and end with the pod" {
	pod
	launch_member init sh -c 'echo made by init >/volume/made; exit 5'
	eventually 10 status_is "$C" "CONTAINER_EXITED 5"
	cri rm "$C"
	launch_member a sh -c 'cat /volume/made; exec httpd -f -p 8080 -h /volume'
	local a=$C
	launch_member b sleep 100000
	same "$(in_member "$C" hostname)" pod
	served() { [ "$(in_member "$C" wget -qO- http://127.0.0.1:8080/made)" = "made by init" ]; }
	eventually 10 served
	same "$(in_member "$C" cat /proc/sys/kernel/random/boot_id)" "$(in_member "$a" cat /proc/sys/kernel/random/boot_id)"
	same "$(cri logs "$a")" "made by init"
	same "$(in_network wget -qO- "http://$(cri inspectp "$POD" | jq -r .status.network.ip):8080/made")" "made by init"
	end_pod
}

@test "a port of the pod is forwarded to a listener on its localhost, and refused where there is none" {
	pod
	launch_member a httpd -f -p 127.0.0.1:8080 -h /volume
	echo forwarded >"$T/volume/page"
	eventually 10 in_member "$C" wget -qO- http://127.0.0.1:8080/page
	helper in_network "$CRICTL" --config "$CRI/crictl.yaml" port-forward "$POD" 18080:8080 18081:8081 >"$T/forwarding" 2>&1
	eventually 10 page 18080
	page 18080
	run ! page 18081
	eventually 5 says "127.0.0.1:8081: connect: connection refused" "$T/forwarding"
	end_pod
}

# page PORT: whether the page is served through this forwarded port.
page() {
	[ "$(in_network timeout 10 wget -qO- "http://127.0.0.1:$1/page")" = forwarded ]
}

# bats test_tags=contract:30
@test "a volume is one for all members and the host, a ConfigMap's swap of links is seen" {
	pod
	launch_member a sleep 100000
	local a=$C
	launch_member b sleep 100000
	in_member "$a" sh -c 'echo of a >/volume/file'
	same "$(in_member "$C" cat /volume/file)" "of a"
	same "$(<"$T/volume/file")" "of a"
	in_member "$C" sh -c 'echo of b >>/volume/file'
	same "$(in_member "$a" cat /volume/file)" "of a
of b"
	same "$(<"$T/volume/file")" "of a
of b"
	# The kubelet writes a ConfigMap like this: a directory for each version, and a link that is replaced by rename(2).
	mkdir "$T/volume/..1" "$T/volume/..2"
	echo one >"$T/volume/..1/key"
	echo two >"$T/volume/..2/key"
	ln -s ..1 "$T/volume/..data"
	ln -s ..data/key "$T/volume/key"
	same "$(in_member "$a" cat /volume/key)$(in_member "$C" cat /volume/key)" oneone
	ln -s ..2 "$T/volume/..data_tmp"
	mv -T "$T/volume/..data_tmp" "$T/volume/..data"
	rm -r "$T/volume/..1"
	eventually 5 in_member "$a" grep -q two /volume/key
	eventually 5 in_member "$C" grep -q two /volume/key
	end_pod
}

@test "a probe's exit code and output come back, one that is too slow is ended" {
	pod
	launch_member a sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
	try in_member "$C" sh -c 'echo ready; echo aside >&2'
	[[ $output == *ready*aside* ]]
	try in_member "$C" sh -c 'exit 7'
	[[ $stderr == *"exited with 7"* ]]
	try in_member "$C" /no/such/probe
	[[ $stderr == *"no such file or directory"* ]]
	try within 10000 cri exec --sync --timeout 2 "$C" sh -c 'echo $$ >/volume/pid; exec sleep 4321'
	[ "$status" -ne 0 ]
	[[ $stderr == *"timeout 2s exceeded"* ]]
	try in_member "$C" kill -0 "$(<"$T/volume/pid")"
	[[ $stderr == *"No such process"* ]]
	# The container ends at the stop signal, within the grace period.
	within 10000 cri stop --timeout 30 "$C"
	same "$(status "$C")" "CONTAINER_EXITED 3"
	end_pod
}

# bats test_tags=contract:30
@test "members are started side by side, restarted, and removed in any order" {
	pod
	local name member=() starts=()
	for name in a b c; do
		add $name sleep 100000
		member+=("$C")
	done
	for C in "${member[@]}"; do
		cri start "$C" &
		starts+=($!)
	done
	wait "${starts[@]}"
	for name in 0 1 2; do
		same "$(status "${member[name]}")" "CONTAINER_RUNNING 0"
	done
	# When one member crashes the others go on. It is restarted before the old container is removed.
	cri stop --timeout 0 "${member[1]}" >/dev/null
	same "$(status "${member[1]}")" "CONTAINER_EXITED 137"
	launch_member b.1 sleep 100000
	cri rm "${member[1]}" >/dev/null
	in_member "$C" true
	cri rm --force "${member[0]}" >/dev/null
	in_member "${member[2]}" true
	cri rm --force "$C" >/dev/null
	launch_member a.1 sh -c 'exit 9'
	eventually 10 status_is "$C" "CONTAINER_EXITED 9"
	cri rm --force "${member[2]}" >/dev/null
	launch_member a.2 sleep 100000
	end_pod
}

# figure JQ-FILTER: prints a figure of the member $C.
figure() {
	cri stats --output json "$C" | jq ".stats[0] | $1 | tonumber"
}

@test "the figures of a pod are there and plausible" {
	pod
	launch_member a sh -c 'dd if=/dev/zero of=/written bs=1M count=8; exec sleep 100000'
	[ "$(figure .memory.workingSetBytes.value)" -gt 0 ]
	[ "$(figure .cpu.usageCoreNanoSeconds.value)" -gt 0 ]
	# The pod's figures are those of the VM, and include the boot of its kernel.
	cri statsp --output json "$POD" | jq -e '.stats[0].linux
		| (.cpu.usageCoreNanoSeconds.value | tonumber) > 1e9 and (.memory.usageBytes.value | tonumber) > 5e7'
	end_pod
}
