#!/usr/bin/env bats
# Violent ends. The caller may kill the pid of a container or of an exec at any time, and the kernel (out of memory)
# or an administrator any process of the sandbox. What depends on that process ends at once, and the rest lives on.

load helpers

setup() {
	begin
}

teardown() {
	finish
}

# counting NAME: prints a shell loop that keeps adding lines to a file in the root file system.
counting() {
	echo "while :; do echo x >>/$1; sleep 0.1; done"
}

# still NAME: whether the file has stopped growing.
still() {
	local before
	before=$(stat -c %s "$B/rootfs/$1")
	sleep 0.5
	same "$(stat -c %s "$B/rootfs/$1")" "$before"
}

# shim, vmm, fsd: print the pids of the sandbox's processes.
shim() {
	echo "$PID"
}

vmm() {
	below "$PID" "${VMM_KIND:0:15}" # comm has at most 15 characters
}

fsd() {
	below "$PID" virtiofsd
}

# bats test_tags=contract:5
@test "kill -9 of the container's pid ends the guest process within a second" {
	bundle
	script "$(counting alive)"
	launch
	eventually 5 test -s "$B/rootfs/alive"
	kill -KILL "$PID"
	same "$(exit_status "$PID" 2)" 137
	still alive
	state_is stopped
	runch delete "$ID"
	gone
}

# bats test_tags=contract:5
@test "kill -9 of the container's process group does the same" {
	bundle
	script "$(counting alive)"
	launch
	eventually 5 test -s "$B/rootfs/alive"
	local group
	group=$(group "$PID")
	# Some callers kill the whole process group, so it must not be the caller's own.
	[ "$group" != "$(group $$)" ]
	[ "$group" = "$PID" ] || skip "the process of ${RUNCH##*/} leads no group"
	kill -KILL -- "-$group"
	same "$(exit_status "$PID" 2)" 137
	still alive
	state_is stopped
	runch delete "$ID"
}

# bats test_tags=contract:5
@test "kill -9 of an exec's pid ends that process within a second, and nothing else" {
	bundle
	args sleep 1000
	launch
	background one "$ID" sh -c "$(counting one)"
	local one=$EXEC
	background two "$ID" sh -c "$(counting two)"
	local two=$EXEC
	eventually 5 test -s "$B/rootfs/one"
	eventually 5 test -s "$B/rootfs/two"

	kill -KILL "$one"
	same "$(exit_status "$one" 2)" 137
	eventually 2 still one
	alive "$two"
	alive "$PID"
	same "$(execute echo yes)" yes

	# When the container ends, its execs end too.
	runch kill "$ID" KILL
	exit_status "$PID" 5
	same "$(exit_status "$two" 2)" 137
	still two
	runch delete "$ID"
}

# bats test_tags=contract:5
@test "delete --force succeeds while the caller has not waited for an exec whose process was killed" {
	is_runch || skip "${RUNCH##*/} fails: its init still runs then"
	bundle
	args sleep 1000
	launch
	helper "$TOOLS/subreaper" never -- "$RUNCH" --root "$ROOT" exec --detach --pid-file "$T/exec.pid" "$ID" sleep 1000
	eventually 30 test -s "$T/exec.pid"
	local exec
	exec=$(<"$T/exec.pid")
	kill -KILL "$exec"
	eventually 5 dead "$exec"
	within 5000 runch delete --force "$ID"
	[ -d "/proc/$exec" ] # still a zombie
	gone
	same "$(find /sys/fs/cgroup -ignore_readdir_race -type d -name "$ID")" ""
}

# bats test_tags=contract:6
@test "when the VMM is killed, the container and its execs have ended with 137 within 2 s, and delete succeeds" {
	needs_vm
	bundle
	args sleep 1000
	launch
	background one "$ID" sleep 1000
	kill -KILL "$(vmm)"
	same "$(exit_status "$PID" 2)" 137
	same "$(exit_status "$EXEC" 2)" 137
	state_is stopped
	# delete warns that the exit status is not known, and names the console's log.
	try runch delete "$ID"
	same "$status" 0
	[[ $stderr =~ "how container $ID ended is not known: the VM ended: ".*"ended with signal: killed"(": ".*)?" (the console's log is "($T/logs/[^ ]*\.log) ]]
	[ -f "${BASH_REMATCH[2]}" ]
	gone
}

# bats test_tags=contract:6
@test "when virtiofsd is killed, the container and its execs have ended with 137 within 2 s, and delete succeeds" {
	needs_vm
	bundle
	args sleep 1000
	launch
	background one "$ID" sleep 1000
	kill -KILL "$(fsd)"
	same "$(exit_status "$PID" 2)" 137
	same "$(exit_status "$EXEC" 2)" 137
	state_is stopped
	runch delete "$ID"
	gone
}

# bats test_tags=contract:5,contract:6
@test "whichever process of a sandbox is killed, and also before start or in a pause, the container has ended with 137 within 2 s" {
	needs_vm
	local case stage who cases=("created vmm" "paused shim" "paused fsd")
	[ "$RUNCH_TEST_LONG" = 0 ] || cases=({created,paused}" "{shim,vmm,fsd})
	bundle
	args sleep 1000
	for case in "${cases[@]}"; do
		read -r stage who <<<"$case"
		echo "$who is killed in a container that is $stage"
		create
		if [ "$stage" = paused ]; then
			runch start "$ID"
			runch pause "$ID"
		fi
		state_is "$stage"
		kill -KILL "$("$who")"
		same "$(exit_status "$PID" 2)" 137
		state_is stopped
		runch delete "$ID"
		gone
	done
}

# bats test_tags=contract:18,contract:19
@test "KILL and delete work on a guest that does not answer any more, and other verbs end with an error in time" {
	needs_vm
	bundle
	script 'trap "echo USR1" USR1; echo ready; while :; do sleep 0.1; done'
	launch
	eventually 10 says ready "$B/stdout"
	kill -STOP "$(vmm)"
	kill -USR1 "$PID"
	# Both at the same time, as each takes long to give up.
	DEADLINE=60 runch exec "$ID" true </dev/null >"$T/exec.out" 2>"$T/exec.err" &
	local exec=$!
	DEADLINE=60 try runch kill "$ID" TERM
	same "$status" 1
	[ -n "$stderr" ]
	status=0
	wait "$exec" || status=$?
	same "$status" 255
	[ -s "$T/exec.err" ]

	# Answers that come too late must not appear in the container's output.
	kill -CONT "$(vmm)"
	eventually 10 says USR1 "$B/stdout"
	execute true
	same "$(<"$B/stderr")" ""

	kill -STOP "$(vmm)"
	runch kill "$ID" KILL
	same "$(exit_status "$PID" 5)" 137
	state_is stopped
	runch delete "$ID"
	gone
}

# bats test_tags=contract:9
@test "a VM has no process beside the container's, the VMM and virtiofsd; all are below the container's pid" {
	needs_vm
	bundle
	args sleep 1000
	launch
	same "$(new_orphans)" "$PID"
	[ -n "$(vmm)" ]
	[ -n "$(fsd)" ]
	local below
	below=$(pstree -pT "$PID" | grep -o '([0-9]*)' | wc -l)
	# Some implementations of virtiofsd have two processes.
	[ "$below" -ge 3 ] && [ "$below" -le 4 ]
	runch delete --force "$ID"
}

@test "when the caller's start, exec or delete is killed, the container can still be deleted" {
	bundle
	args sleep 1000
	create
	local verb
	for verb in "start $ID" "exec $ID sleep 1000" "pause $ID" "delete --force $ID"; do
		# shellcheck disable=SC2086 # the verb and its arguments
		helper "$RUNCH" --root "$ROOT" $verb </dev/null >"$T/out" 2>&1
		sleep 0.05 # somewhere in the middle
		kill -KILL "$helper" 2>/dev/null || true
		wait "$helper" 2>/dev/null || true
	done
	runch delete --force "$ID"
	gone
}
