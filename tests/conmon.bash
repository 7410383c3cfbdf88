#!/bin/bash
# What suites load that drive a real conmon, as CRI-O and podman do. conmon's files of the container $ID are in $W,
# which `conmon_dir` makes; its bundle is $B.

# conmon_dir DIRECTORY: sets $W and makes the directories for conmon's files.
conmon_dir() {
	W=$1
	mkdir -p "$W/exits" "$W/persist" "$W/sockets"
}

# end_conmon: kills every conmon that a failed test has left waiting for its engine.
end_conmon() {
	cat "$W/conmon.pid" "$W/exec/conmon.pid" 2>/dev/null | xargs -r -n 1 kill -KILL || true
}

# conmon_with NAME COMMAND...: runs a command that starts conmon. conmon's messages go to $W/NAME.sync. START is the
# pipe by which an engine lets conmon go on, ATTACH that by which conmon says that the engine can attach.
conmon_with() {
	local name=$1
	shift
	rm -f "$W/$name.pipe"
	mkfifo "$W/$name.pipe"
	helper cat "$W/$name.pipe" >"$W/$name.sync"
	"$@" 5>"$W/$name.pipe" 6<"${START:-/dev/null}" 7>"${ATTACH:-/dev/null}" </dev/null >"$W/$name.conmon" 2>&1 3>&-
}

# crio_env COMMAND...: runs the command in the environment that CRI-O gives.
crio_env() {
	env -i CRI_O_EXTERNAL=1 PATH="$PATH" XDG_RUNTIME_DIR="$W" _OCI_SYNCPIPE=5 _OCI_STARTPIPE=6 "$@"
}

# as_crio WORD...: runs conmon as CRI-O does to create $ID, in CRI-O's environment.
as_crio() {
	cd "$B" || return
	conmon_with create crio_env conmon -b "$B" -c "$ID" --exit-dir "$W/exits" -l "$W/ctr.log" --log-level info -n "$ID" \
		-P "$W/conmon.pid" -p "$B/pid" --persist-dir "$W/persist" -r "$RUNCH" --runtime-arg "--root=$ROOT" \
		--socket-dir-path "$W/sockets" -u "$ID" "$@"
	cd / || return
}

# crio_exec WORD...: runs conmon as CRI-O does for an exec, of the process in $W/process.json.
crio_exec() {
	rm -f "$W/exec.pid" "$W/exec.log"
	conmon_with exec crio_env conmon -c "$ID" -n "$ID" -r "$RUNCH" -p "$W/exec.pid" -e -l "$W/exec.log" --socket-dir-path "$W/sockets" \
		--log-level info --runtime-arg "--root=$ROOT" --exec-process-spec "$W/process.json" "$@"
}

# attach SOCKET NAME: connects to conmon's socket. Text written to file descriptor 8 is sent as input. The output is in
# $W/NAME.out, where each packet begins with a byte for its stream.
attach() {
	rm -f "$W/$2.in"
	mkfifo "$W/$2.in"
	exec 9<>"$W/$2.in" # opening one end of a fifo blocks until the other is open (fifo(7))
	helper socat -d -d - "UNIX-CONNECT:$1,type=5" <"$W/$2.in" >"$W/$2.out" 2>"$W/$2.socat" 6>&- 9>&-
	exec 8>"$W/$2.in" 9>&-
	eventually 10 says "starting data transfer loop" "$W/$2.socat"
}

# message NAME NUMBER JQ-FILTER: waits for conmon's message of that number, and prints the filter's result.
message() {
	eventually 60 has_lines "$W/$1.sync" "$2" && sed -n "$2p" "$W/$1.sync" | jq -e "$3"
}

has_lines() {
	[ "$(wc -l <"$1")" -ge "$2" ]
}

# refusal NAME KEY TEXT: expects conmon's message that the runtime failed, with this text of the runtime.
refusal() {
	same "$(message "$1" 1 ".$2")" -1
	[[ $(message "$1" 1 .message) == *"$3"* ]]
}

# created: expects that create has succeeded, and sets PID and CONMON.
created() {
	PID=$(message create 1 '.data // .pid')
	CONMON=$(<"$W/conmon.pid")
	[ "$PID" -gt 1 ]
	same "$(<"$B/pid")" "$PID"
	same "$(parent "$PID")" "$CONMON"
}

# conmon_ended SECONDS STATUS: expects that conmon ends within this time, and that the container's status is conmon's
# own and in both exit files.
conmon_ended() {
	same "$(exit_status "$CONMON" "$1")" "$2"
	same "$(<"$W/exits/$ID")" "$2"
	same "$(<"$W/persist/exit")" "$2"
}
