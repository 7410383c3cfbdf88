#!/usr/bin/env bats
# Callers learn the exit status only from wait4 for the pid in the pid-file: the guest process's code, 0 to 255, or
# 128+N if signal N ended it. This holds for a container and for each exec, even if they end at once.
# RUNCH_REPEAT says how often quick exits are repeated. RUNCH_TEST_LONG=1 tests all codes and all signals of execs.

load helpers

setup_file() {
	share
	bundle
	args sleep 100000
	launch
	shared
}

teardown_file() {
	unshare_all
}

setup() {
	begin
}

teardown() {
	finish
}

# own: makes a bundle for a container of the test's own, in addition to the shared one.
own() {
	ID=${T##*/} B=$T/bundle
	bundle
}

# exec_status WORD...: prints the status of a detached exec, from wait4 in a subreaper of its own.
exec_status() {
	"$TOOLS/subreaper" once --pid-file "$T/pid" -- \
		"$RUNCH" --root "$ROOT" exec --detach --pid-file "$T/pid" "$ID" "$@" </dev/null 3>&- | jq .status
}

# bats test_tags=contract:2
@test "a container's exit code arrives as it is" {
	own
	local code codes=(0 1 255)
	[ "$RUNCH_TEST_LONG" = 0 ] || codes=(0 1 2 7 42 77 100 125 126 127 128 129 137 143 200 254 255)
	for code in "${codes[@]}"; do
		args workload exit "$code"
		launch
		same "$(exit_status "$PID")" "$code"
		runch delete "$ID"
	done
}

# bats test_tags=contract:2
@test "a container that is killed by signal 9 has the status 137" {
	own
	args sleep 1000
	launch
	runch kill "$ID" 9
	same "$(exit_status "$PID")" 137
	runch delete "$ID"
}

# bats test_tags=contract:2
@test "a container's quick exits are all told right" {
	own
	local i times=$(((RUNCH_REPEAT + 9) / 10))
	[ "$RUNCH_TEST_LONG" = 0 ] || times=$RUNCH_REPEAT
	for ((i = 0; i < times; i++)); do
		script "exit $((i % 256))"
		launch
		same "$(exit_status "$PID")" "$((i % 256))"
		state_is stopped
		runch delete "$ID"
	done
	echo "# $times containers" >&3
}

# bats test_tags=contract:2
@test "an exec's exit code arrives as it is, 0 to 255" {
	local code codes=(0 1 2 42 100 126 127 128 137 143 254 255)
	[ "$RUNCH_TEST_LONG" = 0 ] || mapfile -t codes < <(seq 0 255)
	for code in "${codes[@]}"; do
		same "$(exec_status workload exit "$code")" "$code"
	done
}

# bats test_tags=contract:2
@test "an exec that died of signal N has the status 128+N" {
	# All signals whose default action is to end the process: not 17 to 23 and 28. 32 and 33 are the C library's own.
	local n signals=(1 2 3 6 9 11 13 14 15 34 64)
	[ "$RUNCH_TEST_LONG" = 0 ] || mapfile -t signals < <(seq 1 16 && seq 24 27 && seq 29 31 && seq 34 64)
	for n in "${signals[@]}"; do
		same "$(exec_status workload die "$n")" "$((128 + n))"
	done
}

@test "an exec in the foreground ends with the process's status" {
	local code
	for code in 0 3 255; do
		try execute workload exit "$code"
		same "$status" "$code"
	done
	try execute workload die 15
	same "$status" 143
	try execute workload die 9
	same "$status" 137
}

# bats test_tags=contract:2
@test "quick exits of execs are all told right, and their output is complete" {
	local i result
	for ((i = 0; i < RUNCH_REPEAT; i++)); do
		result=$("$TOOLS/subreaper" once --pid-file "$T/pid" -- \
			"$RUNCH" --root "$ROOT" exec --detach --pid-file "$T/pid" "$ID" sh -c "echo line $i; exit $((i % 256))" \
			</dev/null 2>"$T/err" 3>&-)
		# The first line is the process's own output, which is complete because wait4 has returned.
		same "${result%%$'\n'*}" "line $i"
		same "$(tail -n 1 <<<"$result" | jq .status)" "$((i % 256))"
		rm "$T/pid"
	done
	echo "# $RUNCH_REPEAT execs" >&3
}

@test "an exec ends with its own process, whatever that leaves behind in the container" {
	local began
	began=$(now)
	try execute sh -c 'sleep 1000 </dev/null >/dev/null 2>&1 & exit 4'
	same "$status" 4
	[ $(($(now) - began)) -lt 20000 ]
	alive "$PID"
}

@test "the container is not ended by the end of an exec" {
	try execute workload die 9
	state_is running
	alive "$PID"
}
