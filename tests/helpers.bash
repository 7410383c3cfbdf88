#!/bin/bash
# What every suite loads. A test works in a directory of its own, $T, with a state directory of its own, $ROOT,
# on a container whose id is $ID and whose bundle is $B. The order is always the same:
#
#	setup: begin            (or, where a file's tests share one container, setup_file: share)
#	bundle                  a bundle in $B: config.json, and a busybox tree with the workload program
#	config / args           change config.json
#	launch                  create and start; the pid is in $PID
#	teardown: finish        delete what is there, then look whether anything is left anywhere

bats_require_minimum_version 1.5.0

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WORKLOAD=$TOOLS/workload

# --- a test's beginning and end ---

# begin: a directory and an id for this test. With a shared container the id is that one's.
begin() {
	T=$(mktemp -d /tmp/rt.XXXXXX)
	HELPERS=()
	REAPER_MARK=$(wc -l <"$REAPER_LOG")
	if [ -n "${SHARED:-}" ]; then
		ROOT=$SHARED/root ID=$SHARED_ID B=$SHARED/bundle PID=$SHARED_PID
	else
		ROOT=$T/root ID=${T##*/} B=$T/bundle PID=
	fi
	# The logs of creates that fail on purpose are no news for the machine.
	export RUNCH_LOG_DIR=$T/logs
	OTHERS=$(orphans)
}

# share: in setup_file, begin for all tests of a file; ends with `shared`, once the container runs.
share() {
	begin
}

shared() {
	export SHARED=$T SHARED_ID=$ID SHARED_PID=$PID SHARED_OTHERS=$OTHERS
}

# own [TREE]: beside a shared container, one of the test's own.
own() {
	ID=${T##*/} B=$T/bundle
	bundle "$@"
}

# unshare_all: in teardown_file, the end of what share began.
unshare_all() {
	# Where setup_file broke off, nothing is shared yet, and what it has begun is what to end.
	if [ -n "${SHARED:-}" ]; then
		T=$SHARED ROOT=$SHARED/root ID=$SHARED_ID OTHERS=$SHARED_OTHERS
		unset SHARED
	fi
	HELPERS=()
	finish
}

# finish: ends the test's helpers and containers; after a test that passed, nothing may be left.
finish() {
	local pid id
	[ -n "${T:-}" ] || return 0 # it is what is emptied, and where a whole file is skipped nothing was begun
	for pid in "${HELPERS[@]}"; do
		# The pid of one that a test has waited for may be somebody else's by now.
		[[ " $(jobs -p | xargs) " == *" $pid "* ]] || continue
		kill -KILL "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	if [ -d "$ROOT" ]; then
		for id in $(runch list --quiet); do
			if [ -z "${SHARED:-}" ] || [ "$id" != "$SHARED_ID" ]; then
				runch delete --force "$id" || true
			fi
		done
	fi
	[ -n "${BATS_TEST_COMPLETED:-}" ] || last_console
	if ! eventually 10 clean; then
		echo "left behind:" && leftovers
		return 1
	fi
	rm -rf "$T"
}

# last_console: the end of what the last guest has said that was lost, if any was; bats shows it of tests that failed.
last_console() {
	local log
	# shellcheck disable=SC2012 # the names are the runtime's, and of these the last
	log=$(ls -t "$T"/logs/*.log "${SHARED:-$T}"/logs/*.log 2>/dev/null | head -n 1)
	if [ -n "$log" ]; then
		echo "the console of the last guest that was lost, $log:"
		tail -n 40 "$log"
	fi
}

# clean: nothing is left.
clean() {
	[ -z "$(leftovers)" ]
}

# leftovers: all that the test made outside its own directory and that is still there. Every process that the
# runtime leaves behind becomes a child of the subreaper, so none can hide.
leftovers() {
	local pid
	for pid in $(new_orphans); do
		ps -o pid=,ppid=,stat=,args= -p "$pid" | sed 's/^/process /'
	done
	grep -F -e "$T/" -e "${T##*/}" /proc/self/mountinfo | sed 's/^/mount /'
	find /sys/fs/cgroup -ignore_readdir_race -type d -name "*${T##*/}*" -prune 2>/dev/null | sed 's/^/cgroup /'
	find "$ROOT" -mindepth 1 -maxdepth 1 ! -name "${SHARED_ID:-}" ! -name "@${SHARED_ID:-}" 2>/dev/null | sed 's/^/state /'
	find /run -path "*${T##*/}*" -prune 2>/dev/null | sed 's/^/file /'
	return 0
}

# orphans: the pids that were reparented to the subreaper (bats itself is its first child), in one line.
orphans() {
	local pid stat list=
	for pid in $(ps -o pid= --ppid "$REAPER_PID"); do
		# One that is not there any more was reaped, and a zombie is about to be.
		stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
		[[ $stat =~ \)\ Z ]] || list+="$pid "
	done
	echo "${list% }"
}

# new_orphans: those that were not there before the test, of which some may have ended meanwhile; one in a line.
new_orphans() {
	local pid
	for pid in $(orphans); do
		[[ " $OTHERS " == *" $pid "* ]] || echo "$pid"
	done
}

# helper COMMAND...: runs a program of the test in the background; it is ended by finish. Its pid is in $helper.
helper() {
	"$@" <&0 3>&- & # without <&0 the shell would give it /dev/null
	helper=$!
	HELPERS+=("$helper")
}

# --- the runtime ---

# runch ARGUMENT...: the runtime under test. A runtime that hangs is a failure, so there is a deadline.
runch() {
	timeout --foreground --kill-after=5 "${DEADLINE:-120}" "$RUNCH" --root "$ROOT" "$@" 3>&-
}

# with_vmm PROGRAM COMMAND...: the command, with another program for the VMM of this run.
with_vmm() {
	local -x "$VMM_VARIABLE=$1"
	shift
	"$@"
}

# try COMMAND...: runs it with files for stdio; what came is in $status, $output and $stderr. (bats' run reads a
# pipe until it is closed, so it would wait for the container.)
try() {
	status=0
	"$@" >"$T/.out" 2>"$T/.err" </dev/null || status=$?
	output=$(<"$T/.out")
	stderr=$(<"$T/.err")
	printf '$ %s\n→ %d\n%s\n%s\n' "$*" "$status" "$output" "$stderr"
}

# is_runch: whether the runtime under test is ours, or one that makes containers without a VM.
is_runch() {
	[[ $("$RUNCH" --version) == *runch* ]]
}

# needs_vm: skips a test that is about VMs when the runtime has none.
needs_vm() {
	is_runch || skip "this is about the VM, and ${RUNCH##*/} has none"
}

# --- bundles ---

# bundle [TREE]: a bundle in $B with its own writable copy of a root file system: busybox (the default) or static.
bundle() {
	mkdir -p "$B"
	cp -a "$RUNCH_ROOTFS/${1:-busybox}" "$B/rootfs"
	mkdir -p "$B/rootfs/bin"
	cp "$WORKLOAD" "$B/rootfs/bin/workload"
	cp "$TESTS/config.json" "$B/config.json"
	config --arg path "/runch-test/$ID" '.linux.cgroupsPath = $path'
}

# config JQ-ARGUMENT...: changes config.json by a jq filter.
config() {
	jq "$@" <"$B/config.json" >"$B/config.json.new"
	mv "$B/config.json.new" "$B/config.json"
}

# args WORD...: what the container runs.
args() {
	config '.process.args = $ARGS.positional' --args -- "$@"
}

# script TEXT: the container runs a shell with this text.
script() {
	args sh -c "$1"
}

# process WORD...: prints a process file for exec, that of config.json with other arguments.
process() {
	jq '.process | .args = $ARGS.positional' --args -- "$@" <"$B/config.json"
}

# --- containers ---

# create [ARGUMENT...]: creates $ID from $B as its callers do, with files as stdio, and sets PID and STARTED.
create() {
	runch create --bundle "$B" --pid-file "$B/pid" "$@" "$ID" <"${STDIN:-/dev/null}" >"$B/stdout" 2>"$B/stderr" || {
		status=$?
		cat "$B/stderr"
		return $status
	}
	PID=$(<"$B/pid")
	STARTED=$(start_time "$PID")
}

# launch [ARGUMENT...]: create, then start.
launch() {
	create "$@"
	runch start "$ID"
}

# execute WORD...: runs a command in $ID in the foreground.
execute() {
	runch exec "$ID" "$@"
}

# background NAME ARGUMENT...: exec --detach; its pid goes to $EXEC, its output to $T/NAME.out and $T/NAME.err.
background() {
	local name=$1
	shift
	runch exec --detach --pid-file "$T/$name.pid" "$@" <"${STDIN:-/dev/null}" >"$T/$name.out" 2>"$T/$name.err" || {
		status=$?
		cat "$T/$name.err"
		return $status
	}
	EXEC=$(<"$T/$name.pid")
}

# processes: how many processes the container has.
processes() {
	runch ps "$ID" | tail -n +2 | wc -l
}

# state_is STATUS: whether the container's status is that one.
state_is() {
	[ "$(runch state "$ID" | jq -r .status)" = "$1" ]
}

# host_cgroup CONTROLLER: the directory of the container's cgroup on the host.
host_cgroup() {
	local path
	path=$(sed -n "s/^[0-9]*:\([^:]*,\)*$1\(,[^:]*\)*:\(.*\)/\3/p" "/proc/$PID/cgroup")
	if [ -n "$path" ]; then
		echo "/sys/fs/cgroup/$1$path"
	else
		echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$PID/cgroup")"
	fi
}

# host_limit CONTROLLER V1-FILE V2-FILE: what a file of that cgroup says.
host_limit() {
	local dir
	dir=$(host_cgroup "$1")
	if [ -e "$dir/$2" ]; then
		cat "$dir/$2"
	else
		cat "$dir/$3"
	fi
}

# host_memory: its limit of memory, in bytes.
host_memory() {
	host_limit memory memory.limit_in_bytes memory.max
}

# gone: whether the runtime knows no such container any more.
gone() {
	try runch state "$ID"
	[ "$status" -ne 0 ] && [[ $stderr == *"does not exist"* ]]
}

# --- processes ---

# start_time PID: field 22 of /proc/PID/stat, which tells two processes with one pid apart.
start_time() {
	sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20
}

# parent PID, group PID, session PID: fields 4, 5 and 6 of /proc/PID/stat.
parent() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 2; }
group() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 3; }
session() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 4; }

# below PID NAME: the pid of the process with this name among the children of the pid.
below() {
	ps -o pid=,comm= --ppid "$1" | awk -v name="$2" 'index($2, name) == 1 { print $1 }' | head -n 1
}

# alive PID: whether the process exists and is no zombie.
alive() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) && [[ ! $stat =~ \)\ [ZX] ]]
}

dead() {
	! alive "$1"
}

# end_of PID: what wait4 told of the process, as a line of JSON; nothing while it lives.
end_of() {
	tail -n "+$((REAPER_MARK + 1))" "$REAPER_LOG" | jq -c --argjson pid "$1" 'select(.pid == $pid)' | tail -n 1
}

reaped() {
	[ -n "$(end_of "$1")" ]
}

# exit_status PID [SECONDS]: waits until the process was reaped and prints its status, a signal as 128+N.
exit_status() {
	eventually "${2:-60}" reaped "$1" && end_of "$1" | jq .status
}

# --- time: what is given as a limit is that of a machine, and RUNCH_TEST_SLOWER times as long on a slower one ---

# eventually SECONDS COMMAND...: repeats the command until it succeeds.
eventually() {
	local seconds=$(($1 * ${RUNCH_TEST_SLOWER:-1})) deadline
	deadline=$(($(now) + seconds * 1000))
	shift
	until "$@"; do
		if [ "$(now)" -ge "$deadline" ]; then
			echo "not within $seconds s: $*" >&2
			return 1
		fi
		sleep 0.05
	done
}

# now: milliseconds.
now() {
	echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# within MILLISECONDS COMMAND...: the command succeeds, and in that time.
within() {
	local limit=$(($1 * ${RUNCH_TEST_SLOWER:-1})) began took
	shift
	began=$(now)
	"$@" || return
	took=$(($(now) - began))
	[ "$took" -le "$limit" ] || {
		echo "took $took ms, more than $limit: $*"
		return 1
	}
}

# same A B: two values are equal; says what they are when not.
same() {
	[ "$1" = "$2" ] || {
		printf 'got      %s\nexpected %s\n' "$1" "$2"
		return 1
	}
}

# says TEXT FILE: the file holds the text.
says() {
	grep -qF -- "$1" "$2"
}
