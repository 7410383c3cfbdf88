#!/usr/bin/env bats
# The life of one container by the commands of its caller: create, start, kill, delete; and run.

load helpers

setup() {
	begin
}

teardown() {
	finish
}

# bats test_tags=contract:1
@test "create returns 0 only when the pid-file is there and its process alive, a child of the caller's subreaper" {
	bundle
	script 'sleep 1000'
	create
	alive "$PID"
	same "$(parent "$PID")" "$REAPER_PID"
	state_is created
	same "$(runch state "$ID" | jq .pid)" "$PID"
}

# bats test_tags=contract:17
@test "the user's program does not run before start; start returns once it has been exec'd; a second start fails" {
	bundle
	script 'echo ran >/ran; sleep 1000'
	create
	# create has returned, and the program has not run.
	[ ! -e "$B/rootfs/ran" ]
	runch start "$ID"
	state_is running
	eventually 5 test -e "$B/rootfs/ran"

	try runch start "$ID"
	same "$status" 1
	[[ $stderr == *"cannot start an already running container"* ]]
	state_is running

	kill -KILL "$PID"
	same "$(exit_status "$PID")" 137
	try runch start "$ID"
	same "$status" 1
	[[ $stderr == *"cannot start a container that has stopped"* ]]
}

# bats test_tags=contract:17
@test "a program that execve refuses is reported in execve's words, and the container has stopped" {
	bundle
	printf '#!/no/such/interpreter\n' >"$B/rootfs/bin/broken"
	chmod +x "$B/rootfs/bin/broken"
	args /bin/broken
	# The file is there and executable, so create finds nothing wrong with it.
	create
	# As with runc, the message comes from start or is on the container's own stderr.
	try runch start "$ID"
	eventually 10 state_is stopped
	[ "$(exit_status "$PID")" -ne 0 ]
	cat "$T/.err" "$B/stderr" | grep "no such file or directory"
	runch delete "$ID"
}

# bats test_tags=contract:3
@test "pid and start time stay the same from create to exit, while state goes created, running, stopped" {
	bundle
	# shellcheck disable=SC2016 # expanded in the container
	script 'until [ -e /go ]; do sleep 0.05; done; exit 7'
	create
	state_is created
	runch start "$ID"
	state_is running
	same "$(runch state "$ID" | jq .pid)" "$PID"
	same "$(start_time "$PID")" "$STARTED"

	touch "$B/rootfs/go"
	same "$(exit_status "$PID")" 7
	same "$(end_of "$PID" | jq .starttime)" "$STARTED"
	# A caller acts as soon as it has reaped the pid, so the container has to be stopped at once.
	state_is stopped
	same "$(runch state "$ID" | jq .pid)" 0
	runch delete "$ID"
	gone
}

# bats test_tags=contract:3
@test "the process ends no earlier than the guest's, and no later than a second after it" {
	bundle
	script 'until [ -e /go ]; do sleep 0.05; done; echo gone >/gone; exit 0'
	launch
	touch "$B/rootfs/go"
	same "$(exit_status "$PID")" 0
	# The file is the last that the program does, and its time is of the host's clock.
	local last took
	last=$(stat --format %.3Y "$B/rootfs/gone")
	took=$(($(end_of "$PID" | jq .time) - ${last/./}))
	echo "ended after $took ms"
	[ "$took" -ge 0 ]
	[ "$took" -le $((1000 * ${RUNCH_TEST_SLOWER:-1})) ]
}

# bats test_tags=contract:17
@test "a created container can be killed and deleted, and its id is free again" {
	bundle
	args sleep 1000
	create
	runch kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	state_is stopped
	runch delete "$ID"
	gone

	create
	state_is created
	try runch delete "$ID"
	# Like runc, delete accepts a container that is only created, and ends its process.
	same "$status" 0
	exit_status "$PID"
	gone
}

@test "delete refuses a running container, delete --force kills it" {
	bundle
	args sleep 1000
	launch
	try runch delete "$ID"
	same "$status" 1
	[[ $stderr == *"cannot delete container $ID that is not stopped: running"* ]]
	alive "$PID"
	runch delete --force "$ID"
	gone
	same "$(exit_status "$PID")" 137
}

@test "a second container of the same id is refused, and the first does not notice" {
	bundle
	args sleep 1000
	launch
	local other=$T/other.pid
	try runch create --bundle "$B" --pid-file "$other" "$ID"
	same "$status" 1
	[[ $stderr == *"container with given ID already exists"* ]]
	[ ! -e "$other" ]
	state_is running
	alive "$PID"
}

@test "run starts the container, passes its stdio and exit status, and deletes it" {
	bundle
	script 'read -r word; echo "out $word"; echo err >&2; exit 23'
	status=0
	echo hello | runch run --bundle "$B" "$ID" >"$T/out" 2>"$T/err" || status=$?
	same "$status" 23
	same "$(<"$T/out")" "out hello"
	same "$(<"$T/err")" err
	gone
}

@test "run --detach leaves a running container to the caller" {
	bundle
	script 'sleep 1000'
	runch run --detach --bundle "$B" --pid-file "$B/pid" "$ID" </dev/null >"$B/stdout" 2>"$B/stderr"
	PID=$(<"$B/pid")
	state_is running
	same "$(parent "$PID")" "$REAPER_PID"
	runch kill "$ID" KILL
	same "$(exit_status "$PID")" 137
	runch delete "$ID"
	gone
}

@test "run in the foreground passes signals to the container and says 128 plus the signal" {
	bundle
	script 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done'
	helper "$RUNCH" --root "$ROOT" run --bundle "$B" "$ID" </dev/null >"$T/out" 2>"$T/err"
	eventually 60 says ready "$T/out"
	kill -TERM "$helper"
	status=0
	wait "$helper" || status=$?
	same "$status" 9
	gone

	script 'echo ready; exec sleep 1000'
	helper "$RUNCH" --root "$ROOT" run --bundle "$B" "$ID" </dev/null >"$T/out" 2>"$T/err"
	eventually 60 says ready "$T/out"
	runch kill "$ID" KILL
	status=0
	wait "$helper" || status=$?
	same "$status" 137
	gone
}

@test "pause stops every process, resume lets them go on; a paused container takes no exec" {
	bundle
	script 'i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.05; done'
	launch
	eventually 5 test -s "$B/rootfs/count"
	runch pause "$ID"
	state_is paused
	local before
	before=$(cat "$B/rootfs/count")
	try runch exec "$ID" true
	same "$status" 255
	[[ $stderr == *"cannot exec in a paused container"* ]]
	try runch pause "$ID"
	same "$status" 1
	# The exec above took longer than several rounds of the program.
	same "$(cat "$B/rootfs/count")" "$before"

	runch resume "$ID"
	state_is running
	counts_on() { [ "$(cat "$B/rootfs/count")" != "$before" ]; }
	eventually 5 counts_on
	try runch resume "$ID"
	same "$status" 1
	[[ $stderr == *"container not paused"* ]]
}

@test "a paused container can be deleted by force" {
	bundle
	args sleep 1000
	launch
	runch pause "$ID"
	runch delete --force "$ID"
	gone
	same "$(exit_status "$PID")" 137
}

@test "list shows each container with pid, status and bundle, ps the processes inside" {
	bundle
	script 'sleep 1000 & sleep 1000 & wait'
	launch
	try runch list
	[[ $output =~ ^ID\ +PID\ +STATUS\ +BUNDLE\ +CREATED ]]
	[[ $output =~ $ID\ +$PID\ +running\ +$B\  ]]
	same "$(runch list --quiet)" "$ID"
	same "$(runch list -f json | jq -r '.[0].id, .[0].status, .[0].pid' | xargs)" "$ID running $PID"

	try runch ps "$ID"
	[[ $output == *PID* && $output == *"sleep 1000"* ]]
	# One shell and two sleeps.
	three() { [ "$(processes)" = 3 ]; }
	eventually 5 three
}

# bats test_tags=contract:25
@test "the cgroup of cgroupsPath holds the pid before create returns, and is removed by delete" {
	bundle
	args sleep 1000
	create
	grep -F "/runch-test/$ID" "/proc/$PID/cgroup"
	runch delete --force "$ID"
	[ -z "$(find /sys/fs/cgroup -ignore_readdir_race -type d -name "$ID")" ]
}

# bats test_tags=contract:20
@test "when delete has returned, the root file system can be unmounted" {
	bundle
	mv "$B/rootfs" "$T/tree"
	mkdir "$B/rootfs"
	mount --bind "$T/tree" "$B/rootfs"
	script 'sleep 1000'
	launch
	runch kill "$ID" KILL
	exit_status "$PID"
	runch delete "$ID"
	# An ordinary unmount, not a lazy one: it fails with EBUSY if anything still uses the mount.
	umount "$B/rootfs"
}

# bats test_tags=contract:20
@test "the caller may unmount the root file system as soon as the container has exited, before delete" {
	bundle
	mv "$B/rootfs" "$T/tree"
	mkdir "$B/rootfs"
	mount --bind "$T/tree" "$B/rootfs"
	script 'exit 0'
	launch
	exit_status "$PID"
	umount --lazy "$B/rootfs"
	runch delete "$ID"
	gone
}
