#!/bin/bash
# What suites load that drive a real conmon, as CRI-O and podman do. conmon's files of the container $ID are in $W,
# which `conmon_dir` makes; its bundle is $B.

# conmon_dir DIRECTORY: where conmon's files of a container go.
conmon_dir() {
	W=$1
	mkdir -p "$W/exits" "$W/persist" "$W/sockets"
}

# end_conmon: where a test broke off, a conmon may still be waiting for its engine.
end_conmon() {
	cat "$W/conmon.pid" "$W/exec/conmon.pid" 2>/dev/null | xargs -r -n 1 kill -KILL || true
}

# conmon_with NAME COMMAND...: the command starts a conmon. Its messages go to $W/NAME.sync, as they come. START and
# ATTACH are the pipes by which an engine holds it back and is told that it can attach.
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

# as_crio WORD...: conmon as CRI-O calls it to create $ID, with the environment that CRI-O leaves.
as_crio() {
	cd "$B" || return
	conmon_with create crio_env conmon -b "$B" -c "$ID" --exit-dir "$W/exits" -l "$W/ctr.log" --log-level info -n "$ID" \
		-P "$W/conmon.pid" -p "$B/pid" --persist-dir "$W/persist" -r "$RUNCH" --runtime-arg "--root=$ROOT" \
		--socket-dir-path "$W/sockets" -u "$ID" "$@"
	cd / || return
}

# crio_exec WORD...: CRI-O's exec by conmon, of the process in $W/process.json.
crio_exec() {
	rm -f "$W/exec.pid" "$W/exec.log"
	conmon_with exec crio_env conmon -c "$ID" -n "$ID" -r "$RUNCH" -p "$W/exec.pid" -e -l "$W/exec.log" --socket-dir-path "$W/sockets" \
		--log-level info --runtime-arg "--root=$ROOT" --exec-process-spec "$W/process.json" "$@"
}

# attach SOCKET NAME: connects to conmon's socket. Lines written to descriptor 8 are typed; what comes back is in
# $W/NAME.out, each packet after one byte that says which stream it is from.
attach() {
	rm -f "$W/$2.in"
	mkfifo "$W/$2.in"
	exec 9<>"$W/$2.in" # else opening it would wait for the other side
	helper socat -d -d - "UNIX-CONNECT:$1,type=5" <"$W/$2.in" >"$W/$2.out" 2>"$W/$2.socat" 6>&- 9>&-
	exec 8>"$W/$2.in" 9>&-
	eventually 10 says "starting data transfer loop" "$W/$2.socat"
}

# message NAME NUMBER JQ-FILTER: waits for conmon's n-th message, and prints what the filter makes of it.
message() {
	eventually 60 has_lines "$W/$1.sync" "$2" && sed -n "$2p" "$W/$1.sync" | jq -e "$3"
}

has_lines() {
	[ "$(wc -l <"$1")" -ge "$2" ]
}

# refusal NAME KEY TEXT: conmon's message is that it did not work, with these words of the runtime.
refusal() {
	same "$(message "$1" 1 ".$2")" -1
	[[ $(message "$1" 1 .message) == *"$3"* ]]
}

# created: create succeeded; sets PID and CONMON from what conmon said.
created() {
	PID=$(message create 1 '.data // .pid')
	CONMON=$(<"$W/conmon.pid")
	[ "$PID" -gt 1 ]
	same "$(<"$B/pid")" "$PID"
	same "$(parent "$PID")" "$CONMON"
}

# conmon_ended SECONDS STATUS: conmon ends in this time, and with the container's status, since it has nothing else.
conmon_ended() {
	same "$(exit_status "$CONMON" "$1")" "$2"
	same "$(<"$W/exits/$ID")" "$2"
	same "$(<"$W/persist/exit")" "$2"
}
