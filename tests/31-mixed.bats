#!/usr/bin/env bats
# Mixed mode: with fallback_runtime set, containers that ask for namespaces of the host are passed on to another runtime
# and are in no VM, while all others are in VMs. This suite calls runch directly, with runc and crun as fallback
# runtimes. 32-mixed-podman.bats, 33-mixed-containerd.bats and 24-crio.bats do so by callers.

load helpers

setup() {
	is_runch || skip "this is about what is not in a VM"
	begin
	bundle
	export RUNCH_FALLBACK_RUNTIME=runc
	args sleep 1000
	on_host network
}

teardown() {
	finish
}

# on_host KIND...: lets the bundle use the host's namespaces of these kinds.
on_host() {
	config '.linux.namespaces |= map(select(.type | IN($ARGS.positional[]) | not))' --args -- "$@"
}

# of_host PID KIND: whether the process is in the host's namespace of this kind.
of_host() {
	[ "$(readlink "/proc/$1/ns/$2")" = "$(readlink "/proc/self/ns/$2")" ]
}

# no_vm: expects that the test has no VM.
no_vm() {
	same "$(pgrep -f -- "$ROOT/@" || true)" ""
}

# listed JQ-FILTER: prints the filter's result for $ID in the output of list.
listed() {
	runch list --format json | jq -r --arg id "$ID" ".[]? | select(.id == \$id) | $1"
}

@test "without the setting the host's namespaces are refused, by a line that names it" {
	unset RUNCH_FALLBACK_RUNTIME
	try runch create --bundle "$B" "$ID"
	same "$status" 1
	[[ $stderr == *"linux.namespaces: no network namespace: the host's cannot be shared with a VM: set fallback_runtime to have it run by runc, without a VM"* ]]
	same "$(grep -c . "$T/.err")" 1
	gone
}

@test "each command of a container on the host's network is runc's, from create to delete" {
	launch
	of_host "$PID" net
	no_vm
	same "$(runch state "$ID" | jq -c '[.status, .pid]')" "[\"running\",$PID]"
	same "$(listed '"\(.status) \(.pid) \(.fallback)"')" "running $PID $(command -v runc)"
	[[ $(runch list) == *"$ID"*"$PID"*running*"$B"* ]]
	same "$(runch ps --format json "$ID")" "[$PID]"
	same "$(execute sh -c 'echo out; exit 7' || echo "code $?")" $'out\ncode 7'
	background sleeper "$ID" sleep 2000
	of_host "$EXEC" net
	runch pause "$ID"
	same "$(listed .status)" paused
	try execute true
	same "$status" 255
	runch resume "$ID"
	echo '{"pids": {"limit": 77}}' | runch update --resources - "$ID"
	same "$(cat "$(host_cgroup pids)/pids.max")" 77
	same "$(runch events --stats "$ID" | jq .data.pids.limit)" 77
	try runch delete "$ID"
	[ "$status" -ne 0 ]
	[[ $stderr == *"not stopped"* ]]
	runch kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	same "$(runch state "$ID" | jq -r .status)" stopped
	runch delete "$ID"
	gone
	same "$(runch list --quiet | grep -c "$ID" || true)" 0
	clean
}

@test "the host's pids and ipc, and the namespaces of its processes, are passed on as well" {
	local kind
	for kind in pid ipc; do
		rm -rf "$B" && bundle
		args sleep 1000
		on_host "$kind"
		launch
		of_host "$PID" "$kind"
		runch delete --force "$ID"
	done
	helper unshare --net --ipc sleep 1000
	local foreign=$helper
	eventually 5 not of_host "$foreign" ipc
	for kind in network ipc; do
		rm -rf "$B" && bundle
		args sleep 1000
		config --arg kind "$kind" --arg path "/proc/$foreign/ns/${kind/network/net}" '(.linux.namespaces[] | select(.type == $kind)).path = $path'
		launch
		same "$(readlink "/proc/$PID/ns/${kind/network/net}")" "$(readlink "/proc/$foreign/ns/${kind/network/net}")"
		runch delete --force "$ID"
	done
	no_vm
	gone
}

not() {
	! "$@"
}

@test "run in the foreground: output, exit code and files are between the caller and runc" {
	args sh -c 'cat; cat <&3; exit 5'
	echo of 3 >"$T/third"
	same "$(echo of stdin | timeout 60 "$RUNCH" --root "$ROOT" run --preserve-fds 1 --bundle "$B" "$ID" 3<"$T/third" || echo "code $?")" \
		$'of stdin\nof 3\ncode 5'
	gone
	clean
}

@test "a terminal: the console socket gets it from runc" {
	config '.process.terminal = true'
	args sh -c 'tty; exit 8'
	mkfifo "$T/orders"
	exec 9<>"$T/orders"
	helper "$TOOLS/terminal" receive --socket "$T/console" --out "$T/screen" --report "$T/report" <"$T/orders" 9>&-
	eventually 5 test -S "$T/console"
	launch --console-socket "$T/console"
	echo accept >&9
	same "$(exit_status "$PID" 10)" 8
	eventually 5 says /dev/pts/ "$T/screen"
	exec 9>&-
}

@test "a create that fails leaves nothing, and a second of the same id works" {
	args /no/such/program
	try runch create --bundle "$B" --pid-file "$T/pid" "$ID"
	[ "$status" -ne 0 ]
	[[ $stderr == *"no such file or directory"* ]]
	same "$(listed .id)" ""
	gone
	clean
	args sleep 1000
	launch
	# A second container of this id is refused.
	try runch create --bundle "$B" "$ID"
	[ "$status" -ne 0 ]
	[[ $stderr == *"already exists"* ]]
	same "$(listed .status)" running
}

@test "a create that is killed at any moment leaves what delete --force cleans" {
	local pause pid
	for pause in 0.002 0.005 0.01 0.02 0.03 0.05 0.1; do
		"$RUNCH" --root "$ROOT" create --bundle "$B" "$ID" </dev/null >/dev/null 2>&1 3>&- &
		pid=$!
		sleep "$pause"
		kill -KILL $pid 2>/dev/null || true
		wait $pid || true
		runch delete --force "$ID"
		gone
		same "$(find "$ROOT" -mindepth 1 2>/dev/null)" ""
		# runc itself leaves the cgroup of a create that was killed.
		eventually 5 removed
	done
}

# removed: removes the container's cgroups, and fails while a process is in one of them.
removed() {
	find /sys/fs/cgroup -ignore_readdir_race -depth -type d -name "$ID" -exec rmdir {} + 2>/dev/null
	[ -z "$(find /sys/fs/cgroup -ignore_readdir_race -type d -name "$ID")" ]
}

@test "a runtime that hangs or is missing: list shows the others, and says so" {
	create
	# From here on the record names another program.
	local record=$ROOT/$ID/container.json
	printf '#!/bin/sh\nexec sleep 300\n' >"$T/hangs"
	chmod +x "$T/hangs"
	mkdir "$ROOT/=hangs"
	jq -c --arg program "$T/hangs" '.fallback = $program' "$record" >"$T/record"
	cp "$record" "$T/kept"
	mkdir "$ROOT/=hangs/$ID"
	cp "$T/record" "$record"
	try within 9000 runch list
	same "$status" 0
	[[ $output == *"$ID"*unknown* ]]
	[[ $stderr == *"list the containers of $T/hangs: "*"did not end within 5s"* ]]
	rm "$T/hangs"
	try runch state "$ID"
	[ "$status" -ne 0 ]
	[[ $stderr == *"execute the container's runtime $T/hangs: no such file or directory"* ]]
	cp "$T/kept" "$record"
	rm -r "$ROOT/=hangs"
	runch delete --force "$ID"
}

@test "a fallback runtime that is not there, and runch itself, are refused; check says whether it is there" {
	local -x RUNCH_FALLBACK_RUNTIME=nosuchruntime
	try runch create --bundle "$B" "$ID"
	same "$status" 1
	[[ $stderr == *'fallback_runtime: there is no program '*nosuchruntime* ]]
	RUNCH_FALLBACK_RUNTIME=$RUNCH
	try runch create --bundle "$B" "$ID"
	same "$status" 1
	[[ $stderr == *"is runch itself"* ]]
	gone
	RUNCH_FALLBACK_RUNTIME=runc
	runch check --format json >"$T/check" || true
	same "$(jq -r '.[] | select(.name == "fallback runtime") | "\(.ok) \(.detail)"' "$T/check" | cut -d : -f 1)" "true $(command -v runc)"
	RUNCH_FALLBACK_RUNTIME=nosuchruntime
	runch check --format json >"$T/check" || true
	same "$(jq -r '.[] | select(.name == "fallback runtime").ok' "$T/check")" false
	RUNCH_FALLBACK_RUNTIME=
	runch check --format json >"$T/check" || true
	same "$(jq '[.[] | select(.name == "fallback runtime")] | length' "$T/check")" 0
}

@test "nothing joins a VM from outside: not with the host's network, nor as a member of its pod" {
	config --arg id "$ID" '.linux.namespaces += [{type: "network"}] |
		.annotations = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": $id}'
	launch
	local pod=$ID shim=$PID
	same "$(listed .fallback)" null
	ID=$pod-member
	config --arg pod "$pod" '.annotations = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": $pod}'
	on_host network
	try runch create --bundle "$B" "$ID"
	[ "$status" -ne 0 ]
	[[ $stderr == *"no network namespace: the host's cannot be shared with a VM"* ]]
	[[ $stderr != *"set fallback_runtime"* ]]
	config --arg path "/proc/$shim/ns/pid" 'del(.annotations) | (.linux.namespaces[] | select(.type == "pid")).path = $path'
	try runch create --bundle "$B" "$ID"
	[ "$status" -ne 0 ]
	[[ $stderr == *"no network namespace: the host's cannot be shared with a VM"* ]]
	gone
}

@test "crun: the same life" {
	# crun refuses a host with both versions of cgroups, so it gets to see only one.
	if mountpoint -q /sys/fs/cgroup/unified; then
		crun_sees() { unshare --mount sh -c 'umount /sys/fs/cgroup/unified && exec "$@"' sh "$@"; }
	else
		crun_sees() { "$@"; }
	fi
	export RUNCH_FALLBACK_RUNTIME=crun
	config '.ociVersion = "1.0.2"' # crun 1.8 accepts no later version
	local r=(crun_sees timeout 60 "$RUNCH" --root "$ROOT")
	"${r[@]}" create --bundle "$B" --pid-file "$B/pid" "$ID" </dev/null >"$T/out" 2>&1 3>&- || { cat "$T/out" && false; }
	PID=$(<"$B/pid")
	of_host "$PID" net
	"${r[@]}" start "$ID"
	same "$("${r[@]}" exec "$ID" echo hello)" hello
	same "$("${r[@]}" list --format json | jq -r --arg id "$ID" '.[] | select(.id == $id) | "\(.status) \(.pid) \(.fallback)"')" \
		"running $PID $(command -v crun)"
	"${r[@]}" pause "$ID"
	"${r[@]}" resume "$ID"
	"${r[@]}" kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	"${r[@]}" delete "$ID"
	gone
	clean
}
