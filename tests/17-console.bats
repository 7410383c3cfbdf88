#!/usr/bin/env bats
# Terminals: for a detached process the caller gets the terminal's master over the console socket. A process in the
# foreground uses the caller's own terminal.

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
	mkfifo "$T/orders"
	exec 9<>"$T/orders"
}

teardown() {
	exec 9>&-
	finish
}

# receiver: listens on the console socket $T/sock, as conmon does. It reads instructions from file descriptor 9.
receiver() {
	helper "$TOOLS/terminal" receive --socket "$T/sock" --out "$T/screen" --report "$T/report" <"$T/orders" 9>&-
	eventually 5 test -S "$T/sock"
}

# at_terminal COMMAND...: runs the command on a new terminal, as a shell in a window does. Instructions for the
# terminal are written to file descriptor 9.
at_terminal() {
	helper "$TOOLS/terminal" run --out "$T/screen" --report "$T/report" -- "$@" <"$T/orders" 9>&-
}

# told TEXT: whether the terminal has shown the text.
told() {
	says "$1" "$T/screen"
}

# sized ROWS COLS: whether programs on the terminal see this size.
sized() {
	echo 'type stty size' >&9
	eventually 2 told "$1 $2"
}

# ended JQ-FILTER: waits for the command's end, and prints the filter's result for the report.
ended() {
	eventually 20 test -s "$T/report"
	jq -r "$1" "$T/report"
}

# bats test_tags=contract:23
@test "create sends one message with the master of a terminal over the console socket, and does not wait for accept" {
	own
	args sh
	config '.process.terminal = true'
	receiver
	# create returns though nobody has accepted yet.
	create --console-socket "$T/sock"
	[ ! -e "$T/report" ]
	echo accept >&9
	eventually 5 test -s "$T/report"
	jq -e '.descriptors == 1 and .is_pty_master and (.name | length > 0)' "$T/report"
	runch start "$ID"
	echo 'type tty; echo $((6 * 7))' >&9
	eventually 10 told 42
	told /dev/pts/0
	echo 'size 33 101' >&9
	eventually 10 sized 33 101
	echo 'type exit 5' >&9
	same "$(exit_status "$PID")" 5
	runch delete "$ID"
}

# bats test_tags=contract:23
@test "a detached exec does the same" {
	receiver
	process sh | jq '.terminal = true' >"$T/process.json"
	background exec --process "$T/process.json" --console-socket "$T/sock" "$ID"
	echo accept >&9
	eventually 5 test -s "$T/report"
	jq -e '.descriptors == 1 and .is_pty_master' "$T/report"
	echo 'size 44 132' >&9
	eventually 10 sized 44 132
	# Keys that send signals work, in the guest.
	echo "type sh -c 'echo in fr\\ont; exec sleep 1000'" >&9
	eventually 10 told "in front"
	echo 'send 03' >&9
	echo 'type echo interrupted $?; exit 6' >&9
	same "$(exit_status "$EXEC")" 6
	eventually 5 told "interrupted 130" # this output comes through another process
}

# bats test_tags=contract:7,contract:23
@test "with a terminal, create and exec keep nothing of their own stdout and stderr" {
	own
	args sleep 1000
	config '.process.terminal = true'
	receiver
	# The pipe ends with the command, although the container lives: no other process keeps it open.
	timeout 60 bash -c '"$@" 2>&1 | cat' - "$RUNCH" --root "$ROOT" create --bundle "$B" --pid-file "$B/pid" \
		--console-socket "$T/sock" "$ID" </dev/null 3>&- 9>&- >"$T/out"
	PID=$(<"$B/pid")
	same "$(<"$T/out")" ""
	alive "$PID"
	echo accept >&9
	eventually 5 test -s "$T/report"
	runch delete --force "$ID"
}

@test "the end of the terminal's master is a hang-up for the process" {
	receiver
	process sleep 1000 | jq '.terminal = true' >"$T/process.json"
	background exec --process "$T/process.json" --console-socket "$T/sock" "$ID"
	echo accept >&9
	eventually 5 test -s "$T/report"
	exec 9>&-
	wait "$helper"
	same "$(exit_status "$EXEC" 10)" "$((128 + 1))"
}

@test "the size in the process file is the size at the start" {
	receiver
	process stty size | jq '.terminal = true | .consoleSize = {"height": 21, "width": 61}' >"$T/process.json"
	background exec --process "$T/process.json" --console-socket "$T/sock" "$ID"
	echo accept >&9
	same "$(exit_status "$EXEC")" 0
	eventually 5 told "21 61"
}

# bats test_tags=contract:24
@test "exec --process in the foreground has the caller's terminal: raw mode, size, status, and the modes restored" {
	process sh | jq '.terminal = true' >"$T/process.json"
	at_terminal "$RUNCH" --root "$ROOT" exec --process "$T/process.json" "$ID"
	eventually 20 sized 24 80
	echo 'size 40 132' >&9
	eventually 10 sized 40 132
	# In raw mode ^C is the guest's: it ends the program there, not runch.
	echo "type sh -c 'echo in fr\\ont; exec sleep 1000'" >&9
	eventually 10 told "in front"
	echo 'send 03' >&9
	echo 'type echo interrupted $?; exit 7' >&9
	same "$(ended .status)" 7
	told "interrupted 130"
	same "$(ended .restored)" true
}

# bats test_tags=contract:24
@test "a signal to exec in the foreground is the process's" {
	process sh -c 'trap "echo terminated; exit 9" TERM; echo ready; while :; do sleep 0.1; done' | jq '.terminal = true' >"$T/process.json"
	at_terminal sh -c 'echo $$ >"$0"; exec "$@"' "$T/runch.pid" "$RUNCH" --root "$ROOT" exec --process "$T/process.json" "$ID"
	eventually 20 told ready
	kill -TERM "$(<"$T/runch.pid")"
	same "$(ended .status)" 9
	told terminated
	same "$(ended .restored)" true
}

@test "run in the foreground has the caller's terminal" {
	own
	script 'tty; stty size; exit 4'
	config '.process.terminal = true'
	at_terminal "$RUNCH" --root "$ROOT" run --bundle "$B" "$ID"
	eventually 60 test -s "$T/report"
	same "$(ended .status)" 4
	told "24 80"
	told /dev/pts/0
	same "$(ended .restored)" true
	gone
}
