#!/usr/bin/env bats
# Standard input, output and error: the process uses those that the caller gives to create and exec. No output is
# lost at the end, an end of file passes in both directions, and no other process keeps the caller's pipes open.

load helpers

MIB10=10485760

setup_file() {
	share
	bundle
	args sleep 100000
	launch
	shared
	PATTERN=$("$WORKLOAD" pattern "$MIB10" | sha256sum)
	export PATTERN
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

own() {
	ID=${T##*/} B=$T/bundle
	bundle
}

# flooded FILE: the file has the complete output of workload flood.
flooded() {
	same "$(sha256sum <"$1")" "$PATTERN"
}

# bats test_tags=contract:4
@test "10 MiB on stdout and stderr at once, then an immediate exit: a container's output is complete before wait4 returns" {
	own
	args workload flood "$MIB10"
	launch
	same "$(exit_status "$PID")" 0
	flooded "$B/stdout"
	flooded "$B/stderr"
}

# bats test_tags=lab,contract:4
@test "10 MiB on stdout and stderr at once, then an immediate exit: an exec's output is complete before wait4 returns" {
	background flood "$ID" workload flood "$MIB10"
	same "$(exit_status "$EXEC")" 0
	flooded "$T/flood.out"
	flooded "$T/flood.err"
}

# bats test_tags=contract:4
@test "10 MiB through pipes that are read slowly arrive complete" {
	# The reader pauses first, so the pipes fill up: the guest has to wait and must not drop output.
	runch exec "$ID" workload flood "$MIB10" 2>/dev/null </dev/null | (
		sleep 1
		sha256sum
	) >"$T/sum"
	same "$(<"$T/sum")" "$PATTERN"
}

# bats test_tags=lab,contract:4
@test "10 MiB of input arrive in an exec, and their end too" {
	"$WORKLOAD" pattern "$MIB10" | runch exec "$ID" workload count >"$T/out"
	same "$(<"$T/out")" "$MIB10 ${PATTERN%% *}"
}

# bats test_tags=contract:4
@test "a container reads its input to the end of file" {
	own
	args workload count
	"$WORKLOAD" pattern 100000 >"$T/in"
	STDIN=$T/in launch
	same "$(exit_status "$PID")" 0
	same "$(<"$B/stdout")" "100000 $("$WORKLOAD" pattern 100000 | sha256sum | cut -d ' ' -f 1)"
}

# bats test_tags=contract:4
@test "input that comes later is passed on at once, and the end of the pipe is an end of file" {
	mkfifo "$T/in"
	exec 9<>"$T/in" # opening one end of a fifo blocks until the other is open (fifo(7))
	helper "$RUNCH" --root "$ROOT" exec "$ID" sh -c 'while read -r word; do echo "got $word"; done; echo end' <"$T/in" >"$T/out" 9>&-
	exec 8>"$T/in" 9>&-
	echo one >&8
	eventually 10 says "got one" "$T/out"
	echo two >&8
	eventually 10 says "got two" "$T/out"
	run ! says end "$T/out"
	exec 8>&-
	eventually 10 says end "$T/out"
}

@test "an input of /dev/null is an end of file at once" {
	try execute workload count
	same "$output" "0 $(sha256sum </dev/null | cut -d ' ' -f 1)"
}

# bats test_tags=contract:4
@test "a process that closes its stdout closes the caller's pipe, though it lives on" {
	mkfifo "$T/out"
	runch exec --detach --pid-file "$T/pid" "$ID" sh -c 'echo last; exec >&-; sleep 1000' </dev/null >"$T/out" 2>/dev/null &
	# cat ends when all writers have closed the pipe.
	same "$(timeout 30 cat "$T/out")" last
	eventually 10 test -e "$T/pid"
	EXEC=$(<"$T/pid")
	alive "$EXEC"
	kill -KILL "$EXEC"
	same "$(exit_status "$EXEC")" 137
}

@test "a process whose reader has gone away gets SIGPIPE" {
	local began
	began=$(now)
	runch exec "$ID" sh -c 'trap - PIPE; exec yes' </dev/null 2>/dev/null | head -n 1 >"$T/out" || true
	same "$(<"$T/out")" y
	[ $(($(now) - began)) -lt 20000 ]
}

# bats test_tags=contract:7
@test "no verb leaves anybody behind who holds its stdout or stderr" {
	own
	args sleep 1000
	create
	# Each output is a pipe that is read to its end: a process that kept it open would block the reader.
	local verb
	for verb in "start $ID" "state $ID" "ps $ID" "list" "pause $ID" "resume $ID" "kill $ID 0" "exec $ID true" "kill $ID KILL"; do
		# shellcheck disable=SC2086 # the verb and its arguments
		timeout 30 bash -c '"$@" 2>&1 | cat' - "$RUNCH" --root "$ROOT" $verb </dev/null 3>&- >"$T/out"
	done
	exit_status "$PID"
	timeout 30 bash -c '"$@" 2>&1 | cat' - "$RUNCH" --root "$ROOT" delete "$ID" </dev/null 3>&- >"$T/out"
	gone
}

# bats test_tags=contract:7
@test "after create only the container's process holds its pipes: they end when it does" {
	own
	script 'echo out; echo err >&2; sleep 1000'
	mkfifo "$T/out" "$T/err"
	helper cat "$T/out" >"$T/out.read"
	local out=$helper
	helper cat "$T/err" >"$T/err.read"
	local err=$helper
	runch create --bundle "$B" --pid-file "$B/pid" "$ID" </dev/null >"$T/out" 2>"$T/err"
	PID=$(<"$B/pid")
	runch start "$ID"
	eventually 5 says err "$T/err.read"
	alive "$out"
	alive "$err"

	runch kill "$ID" KILL
	exit_status "$PID"
	wait "$out" "$err"
	same "$(<"$T/out.read")" out
	same "$(<"$T/err.read")" err
}

@test "the process gets the caller's three descriptors and no other" {
	try execute sh -c 'ls /proc/self/fd' 7>"$T/secret"
	# ls has opened 3 itself, the directory that it reads.
	same "$(xargs <<<"$output")" "0 1 2 3"
}

# bats test_tags=contract:7
@test "nothing behind a container or an exec holds what else its caller had open" {
	own
	args sleep 1000
	local secret pid
	exec {secret}>"$T/secret"
	create
	runch start "$ID"
	background one "$ID" sleep 1000
	for pid in "$PID" "$EXEC" $(pgrep --parent "$PID,$EXEC"); do
		same "$(find "/proc/$pid/fd" -lname "$T/secret")" ""
	done
	exec {secret}>&-
	runch delete --force "$ID"
}
