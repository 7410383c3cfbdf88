#!/usr/bin/env bats
# A short test of each feature of containerd's shim for runc that ctr can use, with runch in place of runc.

load callers

SCOPE=/etc/systemd/system/containerd.service.d/lab.conf

setup_file() {
	command -v ctr >/dev/null || skip "there is no containerd: this is for the lab"
	image
	# The shim inherits containerd's environment.
	mkdir -p "${SCOPE%/*}"
	printf '[Service]\n' >"$SCOPE"
	env | sed -n 's/^\(RUNCH_[A-Z_]*=.*\)$/Environment="\1"/p' >>"$SCOPE"
	systemctl daemon-reload
	systemctl start containerd
	podman save --quiet --format oci-archive --output "$BATS_FILE_TMPDIR/image.tar" "$IMAGE"
	ctr image import --base-name localhost/busybox "$BATS_FILE_TMPDIR/image.tar"
	record before
}

teardown_file() {
	systemctl stop containerd || true
	rm -f "$SCOPE"
}

setup() {
	begin
	NAME=c${T##*.}
	REF=$(ctr image ls --quiet | grep -m 1 localhost/busybox)
}

teardown() {
	timeout 60 ctr task kill --signal KILL "$NAME" >/dev/null 2>&1 || true
	timeout 60 ctr task rm --force "$NAME" >/dev/null 2>&1 || true
	timeout 60 ctr container rm "$NAME" >/dev/null 2>&1 || true
	rm -rf "$T"
}

# ctr_run ARGUMENT...: runs `ctr run` with runch and a deadline. The arguments are options, image, name and command.
ctr_run() {
	timeout --foreground "$DEADLINE" ctr run --runc-binary "$RUNCH" "$@" 3>&-
}

# task_is STATUS: whether containerd reports this status for the task.
task_is() {
	[ "$(ctr task ls | awk -v name="$NAME" '$1 == name { print $3 }')" = "$1" ]
}

none_left() {
	same "$(ctr task ls --quiet)$(ctr container ls --quiet)" ""
	soon_unchanged before
}

@test "ctr run: output on the right streams, the exit code, another kernel; --rm leaves nothing" {
	try ctr_run --rm "$REF" "$NAME" sh -c 'echo to stdout; echo to stderr >&2; uname -r >&2; exit 7'
	same "$status" 7
	same "$output" "to stdout"
	[[ $stderr == *"to stderr"* ]]
	[[ $stderr != *"$(uname -r)"* ]]
	none_left
}

@test "ctr run: a command that is not there is an error that names it" {
	try ctr_run --rm "$REF" "$NAME" /no/such/command
	[ "$status" -ne 0 ]
	[[ $stderr == */no/such/command* ]]
	timeout 60 ctr container rm "$NAME" >/dev/null 2>&1 || true
	none_left
}

@test "ctr run -t: a terminal" {
	try on_terminal "timeout --foreground $DEADLINE ctr run --rm -t --runc-binary $RUNCH $REF $NAME sh -c 'tty; exit 9'"
	same "$status" 9
	[[ $output == *"/dev/pts/0"* ]]
	none_left
}

# bats test_tags=lab
@test "ctr run -d: ps, metrics, task exec, pause, kill and rm" {
	ctr_run -d "$REF" "$NAME" sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
	task_is RUNNING
	local pid
	pid=$(ctr task ls | awk -v name="$NAME" '$1 == name { print $2 }')
	same "$(<"/proc/$pid/cgroup")" "0::/default/$NAME"
	[ "$(ctr task metrics --format json "$NAME" | jq '.memory.usage // .usage_in_bytes // .memory.usage_in_bytes')" != 0 ]

	try timeout "$DEADLINE" ctr task exec --exec-id e1 "$NAME" sh -c 'echo in exec; exit 5'
	same "$status $output" "5 in exec"
	try on_terminal "ctr task exec -t --exec-id e2 $NAME sh -c 'tty; exit 6'"
	same "$status" 6
	[[ $output == *"/dev/pts/"* ]]

	ctr task pause "$NAME"
	task_is PAUSED
	ctr task resume "$NAME"
	task_is RUNNING

	ctr task kill --signal TERM "$NAME"
	eventually 30 task_is STOPPED
	try ctr task rm "$NAME"
	[[ $output$stderr == *3* ]]
	ctr container rm "$NAME"
	none_left
}

@test "ctr task kill -9, and a container's pid killed from outside" {
	ctr_run -d "$REF" "$NAME" sleep 1000
	ctr task kill --signal KILL "$NAME"
	eventually 30 task_is STOPPED
	ctr task rm "$NAME" || [ $? = 137 ]
	ctr container rm "$NAME"
	none_left

	ctr_run -d "$REF" "$NAME" sleep 1000
	kill -KILL "$(ctr task ls | awk -v name="$NAME" '$1 == name { print $2 }')"
	eventually 30 task_is STOPPED
	ctr task rm "$NAME" || [ $? = 137 ]
	ctr container rm "$NAME"
	none_left
}

@test "ctr events: a container that was short of memory is told once, and before its end" {
	helper timeout "$DEADLINE" ctr events >"$T/events"
	try ctr_run --rm --memory-limit 33554432 "$REF" "$NAME" dd if=/dev/zero of=/dev/null bs=100M count=1
	same "$status" 137
	eventually 30 says /tasks/exit "$T/events"
	same "$(grep -o '/tasks/oom\|/tasks/exit' "$T/events")" $'/tasks/oom\n/tasks/exit'
	kill "$helper"
	none_left
}

@test "ctr run in a scope of systemd's" {
	ctr_run -d --runc-systemd-cgroup --cgroup "system.slice:ctr:$NAME" "$REF" "$NAME" sleep 1000
	local pid
	pid=$(ctr task ls | awk -v name="$NAME" '$1 == name { print $2 }')
	same "$(<"/proc/$pid/cgroup")" "0::/system.slice/ctr-$NAME.scope"
	ctr task kill --signal KILL "$NAME"
	eventually 30 task_is STOPPED
	ctr task rm "$NAME" || [ $? = 137 ]
	ctr container rm "$NAME"
	eventually 10 test ! -e "/sys/fs/cgroup/system.slice/ctr-$NAME.scope"
	none_left
}
