#!/usr/bin/env bats
# Signals: `kill` delivers one to the container's process and does nothing else. A signal that the caller sends to
# the pid in a pid-file, of a container or of an exec, is delivered to that process in the guest.

load helpers

setup_file() {
	share
	bundle
	args workload signals
	launch
	eventually 10 says ready "$B/stdout"
	shared
}

teardown_file() {
	unshare_all
}

setup() {
	begin
	: >"$B/stdout"
}

teardown() {
	finish
}

# told NUMBER [FILE]: whether the workload has printed that it got this signal.
told() {
	grep -qx "got $1" "${2:-$B/stdout}"
}

# bats test_tags=contract:18
@test "kill delivers a signal named by number, short name or long name, and returns within a second" {
	local word number
	while read -r word number; do
		: >"$B/stdout"
		within 1000 runch kill "$ID" "$word"
		eventually 5 told "$number"
	done <<-END
		15 15
		TERM 15
		SIGTERM 15
		hup 1
		SIGUSR1 10
		35 35
		64 64
	END
	state_is running
}

@test "kill without a signal sends TERM" {
	runch kill "$ID"
	eventually 5 told 15
}

@test "kill 0 says whether the process is there, and delivers nothing" {
	runch kill "$ID" 0
	same "$(<"$B/stdout")" ""
}

@test "kill with an unknown signal fails, names it, and delivers nothing" {
	local word
	for word in NOSUCH SIGNOSUCH 1x; do
		try runch kill "$ID" "$word"
		same "$status" 1
		[[ $stderr == *"$word"* ]]
	done
	try runch kill "$ID" 65
	same "$status" 1
	[ -n "$stderr" ]
	same "$(<"$B/stdout")" ""
}

@test "kill --all reaches every process of the container" {
	background more "$ID" workload signals
	eventually 10 says ready "$T/more.out"
	runch kill --all "$ID" USR1
	eventually 5 told 10
	eventually 5 told 10 "$T/more.out"
	: >"$B/stdout"
	: >"$T/more.out"

	# Without --all only the first process gets the signal.
	runch kill "$ID" HUP
	eventually 5 told 1
	run ! told 1 "$T/more.out"
	# USR2 ends the workload.
	kill -USR2 "$EXEC"
	same "$(exit_status "$EXEC")" 0
}

# bats test_tags=contract:5
@test "a signal that the caller sends to the container's pid is delivered to the container's process as that signal" {
	local word
	for word in TERM INT HUP QUIT USR1 WINCH CONT; do
		: >"$B/stdout"
		kill "-$word" "$PID"
		eventually 5 told "$(kill -l "$word")"
	done
	alive "$PID"
}

# bats test_tags=contract:5
@test "a signal that the caller sends to an exec's pid is delivered to that process, and to no other" {
	background more "$ID" workload signals
	eventually 10 says ready "$T/more.out"
	local word
	for word in TERM INT HUP USR1; do
		kill "-$word" "$EXEC"
		eventually 5 told "$(kill -l "$word")" "$T/more.out"
	done
	same "$(<"$B/stdout")" ""
	kill -USR2 "$EXEC"
	same "$(exit_status "$EXEC")" 0
}

# bats test_tags=contract:5
@test "a signal with the default action that the caller sends to an exec's pid ends it with 128+N" {
	local word
	for word in TERM INT HUP; do
		background it "$ID" sh -c "echo ready; exec sleep 1000"
		eventually 10 says ready "$T/it.out"
		kill "-$word" "$EXEC"
		same "$(exit_status "$EXEC" 10)" "$((128 + $(kill -l "$word")))"
	done
}

# bats test_tags=contract:5
@test "container and exec have a session of their own: their caller can be told to end, and they go on" {
	background more "$ID" sleep 1000
	local pid
	for pid in "$PID" "$EXEC"; do
		[ "$(session "$pid")" != "$(session $$)" ]
		[ "$(group "$pid")" != "$(group $$)" ]
		if is_runch; then
			same "$(session "$pid")" "$pid"
			same "$(group "$pid")" "$pid"
		fi
	done
	kill -KILL "$EXEC"
	same "$(exit_status "$EXEC")" 137
}

# bats test_tags=contract:13,contract:18
@test "kill only delivers: what ignores TERM lives on; KILL makes the pid vanish within 5 s" {
	own
	script 'trap "echo no" TERM; echo ready; while :; do sleep 0.1; done'
	launch
	eventually 10 says ready "$B/stdout"
	within 1000 runch kill "$ID" TERM
	eventually 5 says no "$B/stdout"
	state_is running
	alive "$PID"

	within 1000 runch kill "$ID" KILL
	same "$(exit_status "$PID" 5)" 137
	state_is stopped
	try runch kill "$ID" TERM
	same "$status" 1
	[[ $stderr == *"container not running"* ]]
	# Callers use --all to end what a container without a pid namespace has left.
	runch kill --all "$ID" KILL
	runch delete "$ID"
}

# bats test_tags=contract:18
@test "KILL ends a tree of processes that ignore every other signal" {
	own
	script 'trap "" TERM INT HUP; for i in 1 2 3; do (trap "" TERM INT HUP; sleep 1000 & sleep 1000) & done; echo ready; wait'
	launch
	eventually 10 says ready "$B/stdout"
	runch kill --all "$ID" TERM
	state_is running
	runch kill "$ID" KILL
	same "$(exit_status "$PID" 5)" 137
	runch delete "$ID"
	gone
}

# bats test_tags=contract:18
@test "KILL ends a process that waits for a reader of its output" {
	own
	args yes
	mkfifo "$B/stdout"
	local reader cpu=
	exec {reader}<>"$B/stdout" # the pipe is open for reading, but nobody reads it
	launch
	writes_no_more() {
		local before=$cpu
		cpu=$(execute cut -d ' ' -f 14,15 /proc/1/stat)
		[ "$cpu" = "$before" ]
	}
	eventually 30 writes_no_more
	runch kill "$ID" KILL
	same "$(exit_status "$PID" 5)" 137
	state_is stopped
	runch delete "$ID"
	exec {reader}>&-
}

# bats test_tags=contract:19
@test "ten execs and a kill at one time do not wait for each other" {
	local i pids=()
	for ((i = 0; i < 10; i++)); do
		helper "$RUNCH" --root "$ROOT" exec "$ID" sh -c "echo begun; until [ -e /dev/shm/go ]; do sleep 0.5; done; exit $i" \
			</dev/null >"$T/$i.out" 2>"$T/$i.err"
		pids+=("$helper")
	done
	# No exec ends before the file exists. So kill does not wait for any exec, and no exec waits for another.
	runch kill "$ID" USR1
	all_begun() { [ "$(cat "$T"/[0-9].out | grep -c begun)" = 10 ]; }
	eventually 30 all_begun
	within 2000 runch kill "$ID" USR1
	execute touch /dev/shm/go
	for ((i = 0; i < 10; i++)); do
		status=0
		wait "${pids[i]}" || status=$?
		cat "$T/$i.err" # shown where the test fails
		same "$status" "$i"
	done
	eventually 5 told 10
}
