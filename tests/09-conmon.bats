#!/usr/bin/env bats
# With a real conmon, by which podman and CRI-O run the runtime. conmon calls create and exec, adopts the process of the
# pid-file, and learns by wait4 how it ended. start, kill and delete come from the engine, which is the test here.

load helpers
load conmon

setup() {
	begin
	conmon_dir "$T"
}

teardown() {
	[ -n "${BATS_TEST_COMPLETED:-}" ] || end_conmon
	finish
}

# podman_env COMMAND...: runs the command in the environment that podman gives.
podman_env() {
	_OCI_SYNCPIPE=5 _OCI_STARTPIPE=6 _OCI_ATTACHPIPE=7 "$@"
}

# as_podman WORD...: runs conmon as podman does to create $ID. conmon deletes the container after its end.
as_podman() {
	conmon_with create podman_env conmon --api-version 1 -c "$ID" -u "$ID" -r "$RUNCH" -b "$B" -p "$B/pid" -n "$ID" \
		--exit-dir "$T/exits" --persist-dir "$T/persist" --full-attach \
		--runtime-arg "--root=$ROOT" --runtime-arg --log-format=json --runtime-arg --log --runtime-arg "$T/oci-log" \
		-l "k8s-file:$T/ctr.log" --log-level warning --conmon-pidfile "$T/conmon.pid" \
		--exit-command "$RUNCH" --exit-command-arg --root --exit-command-arg "$ROOT" \
		--exit-command-arg delete --exit-command-arg --force --exit-command-arg "$ID" "$@"
}

# podman_exec WORD...: runs conmon as podman does for an exec, of the process in $T/process.json. podman attaches before
# it lets conmon go on, so all output of the process is in $T/exec.out.
podman_exec() {
	rm -rf "$T/exec" "$T/start.pipe" "$T/attach.pipe"
	mkdir "$T/exec"
	mkfifo "$T/start.pipe" "$T/attach.pipe"
	exec 6<>"$T/start.pipe" # opening one end of a fifo blocks until the other is open (fifo(7))
	helper cat "$T/attach.pipe" >"$T/attach.sync" 6>&-
	echo go >&6
	START=$T/start.pipe ATTACH=$T/attach.pipe conmon_with exec podman_env \
		conmon --api-version 1 -c "$ID" -u "$ID-exec" -r "$RUNCH" -b "$T/exec" -p "$T/exec/pid" -n "$ID" \
		--exit-dir "$T/exec" --persist-dir "$T/exec" --full-attach \
		--runtime-arg "--root=$ROOT" --runtime-arg --log-format=json --runtime-arg --log --runtime-arg "$T/exec/oci-log" \
		-l none --log-level warning -e --exec-attach --exec-process-spec "$T/process.json" \
		--conmon-pidfile "$T/exec/conmon.pid" "$@"
	eventually 10 says '"data"' "$T/attach.sync"
	attach "$T/exec/attach" exec
	echo go >&6
	exec 6>&-
}

# logged STREAM: prints the content of that stream in conmon's log. Pieces of a line, except for the last, have P
# (partial) in the third column.
logged() {
	awk -v stream="$1" '$2 == stream {
		partial = $3 == "P"
		sub(/^[^ ]+ [^ ]+ [^ ]+ /, "")
		printf "%s%s", $0, partial ? "" : "\n"
	}' "$T/ctr.log"
}

# bats test_tags=contract:9
@test "podman: create says the pid, the exit code is in both files, the log is complete, and conmon has ended within 2 s" {
	bundle
	script 'seq 200000; seq 200000 >&2; exit 7'
	as_podman
	created
	state_is created
	runch start "$ID"
	eventually 60 test -s "$T/exits/$ID"
	# conmon ends when it has no child any more: neither the VMM nor virtiofsd may keep it.
	conmon_ended 2 7
	same "$(logged stdout | sha256sum)" "$(seq 200000 | sha256sum)"
	same "$(logged stderr | sha256sum)" "$(seq 200000 | sha256sum)"
	gone # by conmon's exit command
	[ ! -s "$T/oci-log" ]
	[ ! -e "$T/persist/oom" ] && [ ! -e "$B/oom" ]
}

# hungry: makes a bundle whose only process needs more memory than its limit allows.
hungry() {
	bundle
	config '.linux.resources.memory = {limit: 33554432}'
	script 'exec dd if=/dev/zero of=/dev/null bs=100M count=1'
}

# bats test_tags=lab,contract:32
@test "podman: conmon sees that a container was killed for lack of memory" {
	hungry
	cd "$B" # as podman does: older versions of conmon write to the working directory
	as_podman
	cd /
	created
	runch start "$ID"
	conmon_ended 30 137
	[ -e "$T/persist/oom" ] && [ -e "$B/oom" ]
	gone
}

# bats test_tags=contract:11
@test "podman: a create that fails is told with the runtime's words, and in its log" {
	bundle
	args no-such-command
	as_podman
	refusal create data 'executable file not found in $PATH'
	jq -e '.level == "error" and (.msg | contains("executable file not found in $PATH"))' "$T/oci-log"
	CONMON=$(<"$T/conmon.pid")
	same "$(exit_status "$CONMON" 2)" 1
	[ ! -e "$B/pid" ]
	gone
}

# bats test_tags=contract:23
@test "podman: a container on a terminal takes what is typed, follows the size of the window, and hangs up with conmon's end" {
	bundle
	args sh
	config '.process.terminal = true'
	as_podman -t -i
	created
	attach "$B/attach" tty
	runch start "$ID"
	echo 'echo $((6 * 7)) is the answer; tty' >&8
	eventually 10 says "42 is the answer" "$T/tty.out"
	eventually 10 says /dev/pts/0 "$T/tty.out"
	# Rows and columns, as the engine writes them when its own window changes.
	echo "1 33 101" >"$B/ctl"
	sized() {
		echo 'stty size' >&8
		eventually 2 says "33 101" "$T/tty.out"
	}
	eventually 10 sized
	echo 'exit 5' >&8
	eventually 10 test -s "$T/exits/$ID"
	conmon_ended 2 5
}

@test "podman: input from an attached client arrives, and its leaving is the end of the input" {
	bundle
	args workload count
	as_podman -i
	created
	runch start "$ID"
	attach "$B/attach" stdin
	"$WORKLOAD" pattern 100000 | base64 >"$T/text"
	cat "$T/text" >&8
	exec 8>&-
	eventually 30 test -s "$T/exits/$ID"
	same "$(logged stdout)" "$(stat -c %s "$T/text") $(sha256sum <"$T/text" | cut -d ' ' -f 1)"
	conmon_ended 2 0
}

@test "podman: stop is TERM, and KILL for what does not heed it" {
	bundle
	script 'trap "echo no" TERM; echo ready; while :; do sleep 0.1; done'
	as_podman
	created
	runch start "$ID"
	eventually 10 says ready "$T/ctr.log"
	runch kill "$ID" 15
	eventually 5 says no "$T/ctr.log"
	alive "$PID"
	runch kill "$ID" 9
	eventually 5 dead "$PID"
	conmon_ended 2 137
	gone
}

# bats test_tags=contract:5
@test "a signal that conmon gets is the container's" {
	bundle
	args workload signals
	as_podman
	created
	runch start "$ID"
	eventually 10 says ready "$T/ctr.log"
	kill -TERM "$CONMON"
	eventually 5 says "got 15" "$T/ctr.log"
	kill -INT "$CONMON"
	eventually 5 says "got 2" "$T/ctr.log"
	alive "$PID"
	# Signals from other senders reach the container as well.
	kill -USR2 "$PID"
	conmon_ended 5 0
}

@test "kill -9 of conmon leaves the container to whom it was left, and it can be killed and deleted" {
	bundle
	args sleep 1000
	as_podman
	created
	runch start "$ID"
	kill -KILL "$CONMON"
	exit_status "$CONMON"
	state_is running
	runch kill "$ID" KILL
	same "$(exit_status "$PID" 5)" 137
	runch delete "$ID"
	gone
}

@test "podman: execs are told with pid and exit code, their output reaches who attached" {
	bundle
	args sleep 1000
	as_podman
	created
	runch start "$ID"
	local code
	for code in 0 42 255; do
		process sh -c "echo out $code; echo err $code >&2; exit $code" >"$T/process.json"
		podman_exec
		[ "$(message exec 1 .data)" -gt 1 ]
		same "$(message exec 2 .data)" "$code"
		same "$(exit_status "$(<"$T/exec/conmon.pid")" 2)" "$code"
		eventually 5 says "out $code" "$T/exec.out"
		eventually 5 says "err $code" "$T/exec.out"
	done
	state_is running
	runch kill "$ID" KILL
	conmon_ended 5 137
}

@test "podman: an exec on a terminal follows the size of the window" {
	bundle
	args sleep 1000
	as_podman
	created
	runch start "$ID"
	process sh | jq '.terminal = true' >"$T/process.json"
	podman_exec -t -i
	EXEC=$(message exec 1 .data)
	alive "$EXEC"
	echo "1 44 132" >"$T/exec/ctl"
	sized() {
		echo 'stty size' >&8
		eventually 2 says "44 132" "$T/exec.out"
	}
	eventually 10 sized
	echo 'exit 9' >&8
	same "$(message exec 2 .data)" 9
	runch kill "$ID" KILL
	conmon_ended 5 137
}

# bats test_tags=contract:11
@test "podman: an exec that fails is told with the runtime's words" {
	bundle
	args sleep 1000
	as_podman
	created
	runch start "$ID"
	process no-such-command >"$T/process.json"
	podman_exec
	refusal exec data 'executable file not found in $PATH'
	jq -e '.level == "error" and (.msg | contains("executable file not found in $PATH"))' "$T/exec/oci-log"
	[ ! -e "$T/exec/pid" ]
	state_is running
	runch kill "$ID" KILL
	conmon_ended 5 137
}

# bats test_tags=contract:9
@test "CRI-O: create says the pid, the exit code is in both files, and conmon ends with the container" {
	bundle
	script 'seq 100000; exit 3'
	as_crio
	created
	same "$(message create 1 .pid)" "$PID"
	runch start "$ID"
	conmon_ended 30 3
	same "$(logged stdout | sha256sum)" "$(seq 100000 | sha256sum)"
	state_is stopped
	runch delete --force "$ID"
	gone
}

# bats test_tags=contract:32
@test "CRI-O: conmon sees that a container was killed for lack of memory, and the file in the bundle says so without it" {
	hungry
	config '.annotations["io.container.manager"] = "cri-o"'
	as_crio
	created
	runch start "$ID"
	conmon_ended 30 137
	[ -e "$T/persist/oom" ] && [ -e "$B/oom" ]
	runch delete "$ID"

	# Without conmon, as on a host whose cgroup cannot tell conmon about it.
	rm "$B/oom" "$B/pid"
	launch
	same "$(exit_status "$PID" 30)" 137
	[ -e "$B/oom" ]
	runch delete "$ID"
}

@test "a file that the guest has put into the place of /proc is not run when it is short of memory" {
	needs_vm
	hungry
	create
	# The shim's view has its /proc mounted on this directory, even after the directory is renamed.
	mv "$B/rootfs/proc" "$B/rootfs/moved"
	mkdir -p "$B/rootfs/proc/self"
	printf '#!/bin/sh\necho ran >/ran\n' >"$B/rootfs/proc/self/exe"
	chmod +x "$B/rootfs/proc/self/exe"
	runch start "$ID"
	same "$(exit_status "$PID" 30)" 137
	[ ! -e "$B/rootfs/ran" ]
	runch delete "$ID"
}

@test "CRI-O: a create that fails is told with the runtime's words" {
	bundle
	args /etc/passwd
	as_crio
	refusal create pid 'permission denied'
	same "$(exit_status "$(<"$T/conmon.pid")" 2)" 1
	[ ! -e "$B/pid" ]
	gone
}

@test "CRI-O: a container on a terminal, with all of its output in the log" {
	bundle
	script 'tty; seq 20000; exit 4'
	config '.process.terminal = true'
	as_crio -t
	created
	runch start "$ID"
	conmon_ended 30 4
	same "$(logged stdout | tr -d '\r' | sha256sum)" "$( (echo /dev/pts/0 && seq 20000) | sha256sum)"
	runch delete "$ID"
}

@test "CRI-O: execs are told with their exit codes, their output is in their log, a failure with its words" {
	bundle
	args sleep 1000
	as_crio
	created
	runch start "$ID"
	local code
	for code in 0 42 255; do
		process sh -c "echo out $code; exit $code" >"$T/process.json"
		crio_exec
		same "$(message exec 1 .exit_code)" "$code"
		says "stdout F out $code" "$T/exec.log"
	done
	process no-such-command >"$T/process.json"
	crio_exec
	refusal exec exit_code 'executable file not found in $PATH'
	[ ! -e "$T/exec.pid" ]
	state_is running
	runch kill "$ID" KILL
	conmon_ended 5 137
	runch delete "$ID"
}

@test "CRI-O: an exec that takes longer than its timeout is ended, in the guest too, and nothing else is" {
	bundle
	args sleep 1000
	as_crio
	created
	runch start "$ID"
	process sh -c 'while :; do echo x >>/alive; sleep 0.1; done' >"$T/process.json"
	crio_exec -T 2
	refusal exec exit_code 'timed out'
	EXEC=$(<"$T/exec.pid")
	eventually 2 dead "$EXEC"
	[ -s "$B/rootfs/alive" ]
	still() {
		local before
		before=$(stat -c %s "$B/rootfs/alive")
		sleep 0.5
		same "$(stat -c %s "$B/rootfs/alive")" "$before"
	}
	eventually 2 still
	state_is running
	alive "$PID"
	runch kill "$ID" KILL
	conmon_ended 5 137
	runch delete "$ID"
}
