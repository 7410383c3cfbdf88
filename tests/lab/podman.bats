#!/usr/bin/env bats
# A short test of each feature of Debian's podman that is about containers, with runch as the runtime.

load callers

setup_file() {
	command -v podman >/dev/null || skip "there is no podman: this is for the lab"
	image
	record before
}

setup() {
	begin
	NAME=c${T##*.}
}

teardown() {
	timeout 120 podman rm --force --time 0 "$NAME" >/dev/null 2>&1 || true
	rm -rf "$T"
}

# podman_run ARGUMENT...: runs podman run with runch and without a network, with a deadline.
podman_run() {
	timeout --foreground "$DEADLINE" podman --runtime "$RUNCH" run --network none --name "$NAME" "$@" 3>&-
}

# podman_try ARGUMENT...: runs another podman command by try, with a deadline.
podman_try() {
	try timeout --foreground "$DEADLINE" podman "$@" 3>&-
}

# field FORMAT: prints what podman inspect says of the container.
field() {
	podman inspect --format "$1" "$NAME"
}

status_is() {
	same "$(field '{{.State.Status}}')" "$1"
}

none_left() {
	same "$(podman ps --all --quiet)" ""
	soon_unchanged before
}

@test "podman run: output on the right streams, the exit code, another kernel, --rm leaves nothing" {
	try podman_run --rm "$IMAGE" sh -c 'echo to stdout; echo to stderr >&2; uname -r >&2; exit 7'
	same "$status" 7
	same "$output" "to stdout"
	[[ $stderr == *"to stderr"* ]]
	[[ $stderr != *"$(uname -r)"* ]]
	none_left
}

@test "podman run: no such command is 127, one that is no program is 126" {
	try podman_run --rm "$IMAGE" /no/such/command
	same "$status" 127
	try podman_run --rm "$IMAGE" /etc/passwd
	same "$status" 126
	none_left
}

@test "podman run -i: stdin arrives, and its end does" {
	printf 'one\ntwo\n' >"$T/in"
	podman_run --rm -i "$IMAGE" sh -c 'cat; echo end' <"$T/in" >"$T/out"
	same "$(<"$T/out")" $'one\ntwo\nend'
	none_left
}

@test "podman run -t: a terminal, of the size of the caller's" {
	try on_terminal "stty rows 33 cols 99; timeout --foreground $DEADLINE podman --runtime $RUNCH run --network none --rm -t $IMAGE sh -c 'tty; stty size; exit 9'"
	same "$status" 9
	[[ $output == *"/dev/pts/0"* ]]
	[[ $output == *"33 99"* ]]
	none_left
}

# bats test_tags=lab
@test "podman run -d: logs, inspect, a scope as runc names it, exec, pause, stop, rm" {
	podman_run -d "$IMAGE" sh -c 'echo to stdout; echo to stderr >&2; trap "echo bye; exit 3" TERM; while :; do sleep 0.1; done'
	status_is running
	local pid id
	pid=$(field '{{.State.Pid}}') id=$(field '{{.Id}}')
	eventually 30 eval "podman logs $NAME 2>&1 | grep -q 'to stderr'"
	same "$(podman logs "$NAME" 2>/dev/null)" "to stdout"

	# What podman and systemd report of the container.
	same "$(<"/proc/$pid/cgroup")" "0::/machine.slice/libpod-$id.scope"
	[ "$(systemctl show --property ActiveState --value "libpod-$id.scope")" = active ]
	same "$(systemctl show --property Description --value "libpod-$id.scope")" "libcontainer container $id"
	[ "$(podman stats --no-stream --format '{{.MemUsage}}' "$NAME" | cut -d ' ' -f 1)" != 0B ]

	podman_try exec "$NAME" sh -c 'echo in exec; exit 5'
	same "$status $output" "5 in exec"

	podman pause "$NAME"
	status_is paused
	podman unpause "$NAME"
	status_is running

	# stop: the program gets its grace period, and its own exit code is reported.
	podman stop --time 60 "$NAME"
	status_is exited
	same "$(field '{{.State.ExitCode}}')" 3
	[[ $(podman logs "$NAME" 2>/dev/null) == *bye ]]
	podman rm "$NAME"
	none_left
}

@test "podman exec of what is not there, with input, on a terminal and detached; cp both ways" {
	podman_run -d "$IMAGE" sleep 1000
	podman_try exec "$NAME" /no/such/command
	same "$status" 127
	printf 'through exec' | podman exec -i "$NAME" sh -c 'cat >/through'
	try on_terminal "podman exec -t $NAME sh -c 'tty; exit 6'"
	same "$status" 6
	[[ $output == *"/dev/pts/"* ]]
	podman_try exec -d "$NAME" sh -c 'echo detached >/detached'
	same "$status" 0
	eventually 30 podman exec "$NAME" test -s /detached

	# cp touches the container, never the host.
	echo in >"$T/in"
	podman cp "$T/in" "$NAME:/etc/lab-in"
	same "$(podman exec "$NAME" cat /etc/lab-in)" in
	[ ! -e /etc/lab-in ]
	podman cp "$NAME:/through" "$T/out"
	same "$(<"$T/out")" "through exec"

	podman rm --force --time 0 "$NAME"
	none_left
}

@test "podman stop after its grace, kill, start again, rm -f of one that runs" {
	podman_run -d "$IMAGE" sh -c 'trap "" TERM; sleep 1000 & wait; sleep 1000'
	podman_try stop --time 1 "$NAME"
	same "$status" 0
	same "$(field '{{.State.ExitCode}}')" 137

	timeout "$DEADLINE" podman start "$NAME"
	status_is running
	podman kill --signal KILL "$NAME"
	same "$(podman wait "$NAME")" 137
	status_is exited

	timeout "$DEADLINE" podman start "$NAME"
	podman_try rm --force --time 0 "$NAME"
	same "$status" 0
	none_left
}

@test "podman inspect says OOMKilled where the guest was short of memory, for the container's limit or for the VM's, and only then" {
	try podman_run --memory 32m "$IMAGE" dd if=/dev/zero of=/dev/null bs=100M count=1
	same "$status" 137
	same "$(field '{{.State.OOMKilled}}')" true
	podman rm "$NAME"

	try podman_run "$IMAGE" sh -c 'for i in 1 2 3; do dd if=/dev/zero of=/dev/null bs=500M count=4 & done; wait; exit 4'
	same "$status" 4
	same "$(field '{{.State.OOMKilled}}')" true
	podman rm "$NAME"

	try podman_run --memory 64m "$IMAGE" sh -c 'exit 5'
	same "$status" 5
	same "$(field '{{.State.OOMKilled}}')" false
	podman rm "$NAME"
	none_left
}

@test "podman: the container's pid killed from outside is an end that podman notices" {
	podman_run -d "$IMAGE" sleep 1000
	kill -KILL "$(field '{{.State.Pid}}')"
	same "$(timeout 60 podman wait "$NAME")" 137
	podman rm "$NAME"
	none_left
}
