#!/bin/bash
# What every suite loads. A test works in a directory of its own, $T, with a state directory of its own, $ROOT,
# on a container whose id is $ID and whose bundle is $B. The order is always the same:
#
#	setup: begin            (and, if a file's tests share one container, setup_file: share)
#	bundle                  a bundle in $B: config.json, and a busybox tree with the workload program
#	config / args           change config.json
#	launch                  create and start; the pid is in $PID
#	teardown: finish        delete all containers, then check that nothing is left anywhere

bats_require_minimum_version 1.5.0

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WORKLOAD=$TOOLS/workload

# --- a test's beginning and end ---

# begin: makes a directory for this test and sets its variables. With a shared container they are that one's.
begin() {
	T=$(mktemp -d /tmp/rt.XXXXXX)
	HELPERS=()
	REAPER_MARK=$(wc -l <"$REAPER_LOG")
	if [ -n "${SHARED:-}" ]; then
		ROOT=$SHARED/root ID=$SHARED_ID B=$SHARED/bundle PID=$SHARED_PID
	else
		ROOT=$T/root ID=${T##*/} B=$T/bundle PID=
	fi
	# Keep the logs of containers that fail on purpose out of the machine's own log directory.
	export RUNCH_LOG_DIR=$T/logs
	OTHERS=$(orphans)
}

# share: for setup_file, begins for all tests of a file. Call `shared` once the container runs.
share() {
	begin
}

shared() {
	export SHARED=$T SHARED_ID=$ID SHARED_PID=$PID SHARED_OTHERS=$OTHERS
}

# own [TREE]: makes a bundle for a container of the test's own, in addition to the shared one.
own() {
	ID=${T##*/} B=$T/bundle
	bundle "$@"
}

# unshare_all: for teardown_file, finishes what share began.
unshare_all() {
	# If setup_file failed before `shared`, begin's own variables are still set.
	if [ -n "${SHARED:-}" ]; then
		T=$SHARED ROOT=$SHARED/root ID=$SHARED_ID OTHERS=$SHARED_OTHERS
		unset SHARED
	fi
	HELPERS=()
	finish
}

# finish: ends the test's helpers and containers, and fails if anything is left.
finish() {
	local pid id
	[ -n "${T:-}" ] || return 0 # a file that is skipped as a whole has begun nothing
	for pid in "${HELPERS[@]}"; do
		# If the test has waited for a helper, its pid may belong to another process by now.
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

# last_console: prints the end of the console log of the last guest that ended unexpectedly, if any. bats shows it for
# tests that failed.
last_console() {
	local log
	# shellcheck disable=SC2012 # the names are the runtime's, and the newest is wanted
	log=$(ls -t "$T"/logs/*.log "${SHARED:-$T}"/logs/*.log 2>/dev/null | head -n 1)
	if [ -n "$log" ]; then
		echo "the console of the last guest that was lost, $log:"
		tail -n 40 "$log"
	fi
}

# clean: whether nothing is left.
clean() {
	[ -z "$(leftovers)" ]
}

# leftovers: lists what the test made outside its own directory and what is still there. It finds every process that
# the runtime leaves behind, as these are reparented to the subreaper.
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

# orphans: prints the pids of the subreaper's children, in one line: bats itself and the processes reparented to it.
orphans() {
	local pid stat list=
	for pid in $(ps -o pid= --ppid "$REAPER_PID"); do
		# A process that has gone was reaped, and a zombie is about to be.
		stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
		zombie "$stat" || list+="$pid "
	done
	echo "${list% }"
}

# new_orphans: prints the orphans that were not there before the test, one per line. Some may have ended meanwhile.
new_orphans() {
	local pid
	for pid in $(orphans); do
		[[ " $OTHERS " == *" $pid "* ]] || echo "$pid"
	done
}

# helper COMMAND...: runs a program of the test in the background until finish ends it. Sets $helper to its pid.
helper() {
	"$@" <&0 3>&- & # without <&0 the shell would set its stdin to /dev/null
	helper=$!
	HELPERS+=("$helper")
}

# --- the runtime ---

# runch ARGUMENT...: runs the runtime under test, with a deadline: a runtime that hangs has failed.
runch() {
	timeout --foreground --kill-after=5 "${DEADLINE:-120}" "$RUNCH" --root "$ROOT" "$@" 3>&-
}

# with_vmm PROGRAM COMMAND...: runs the command with PROGRAM as the VMM.
with_vmm() {
	local -x "$VMM_VARIABLE=$1"
	shift
	"$@"
}

# try COMMAND...: runs the command and sets $status, $output and $stderr. Its stdio are files: bats' run reads a pipe
# until it is closed, and so would wait for the container's end.
try() {
	status=0
	"$@" >"$T/.out" 2>"$T/.err" </dev/null || status=$?
	output=$(<"$T/.out")
	stderr=$(<"$T/.err")
	printf '$ %s\n→ %d\n%s\n%s\n' "$*" "$status" "$output" "$stderr"
}

# is_runch: whether the runtime under test is runch, and not one that makes containers without a VM.
is_runch() {
	[[ $("$RUNCH" --version) == *runch* ]]
}

# needs_vm: skips a test that is about VMs if the runtime under test has none.
needs_vm() {
	is_runch || skip "this is about the VM, and ${RUNCH##*/} has none"
}

# --- bundles ---

# bundle [TREE]: makes a bundle in $B with its own writable copy of a root file system: busybox (the default), static
# or debian.
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

# args WORD...: sets the container's command.
args() {
	config '.process.args = $ARGS.positional' --args -- "$@"
}

# script TEXT: sets the container's command to a shell with this script.
script() {
	args sh -c "$1"
}

# process WORD...: prints a process file for exec: the process of config.json with other arguments.
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

# background NAME ARGUMENT...: runs exec --detach. Its pid goes to $EXEC, its output to $T/NAME.out and $T/NAME.err.
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

# processes: prints how many processes the container has.
processes() {
	runch ps "$ID" | tail -n +2 | wc -l
}

# state_is STATUS: whether the container has this status.
state_is() {
	[ "$(runch state "$ID" | jq -r .status)" = "$1" ]
}

# host_cgroup CONTROLLER: prints the directory of the container's cgroup on the host, for cgroup v1 or v2.
host_cgroup() {
	local path
	path=$(sed -n "s/^[0-9]*:\([^:]*,\)*$1\(,[^:]*\)*:\(.*\)/\3/p" "/proc/$PID/cgroup")
	if [ -n "$path" ]; then
		echo "/sys/fs/cgroup/$1$path"
	else
		echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$PID/cgroup")"
	fi
}

# host_limit CONTROLLER V1-FILE V2-FILE: prints a file of that cgroup, by its name in cgroup v1 or v2.
host_limit() {
	local dir
	dir=$(host_cgroup "$1")
	if [ -e "$dir/$2" ]; then
		cat "$dir/$2"
	else
		cat "$dir/$3"
	fi
}

# host_memory: prints that cgroup's memory limit, in bytes.
host_memory() {
	host_limit memory memory.limit_in_bytes memory.max
}

# gone: whether the runtime does not know the container any more.
gone() {
	try runch state "$ID"
	[ "$status" -ne 0 ] && [[ $stderr == *"does not exist"* ]]
}

# --- processes ---

# start_time PID: prints field 22 of /proc/PID/stat, which differs between two processes that have had the same pid.
start_time() {
	sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20
}

# parent PID, group PID, session PID: print fields 4, 5 and 6 of /proc/PID/stat.
parent() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 2; }
group() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 3; }
session() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 4; }

# below PID NAME: prints the pid of the first child of PID whose name begins with NAME.
below() {
	ps -o pid=,comm= --ppid "$1" | awk -v name="$2" 'index($2, name) == 1 { print $1 }' | head -n 1
}

# alive PID: whether the process exists and is no zombie.
alive() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) && ! zombie "$stat"
}

# zombie STAT: whether a process with this line in /proc/PID/stat has ended. While it has threads besides the first one,
# which may have ended before them, it lives, and its files are open.
zombie() {
	local fields
	read -ra fields <<<"${1##*) }" # proc_pid_stat(5) from field 3 on
	[[ ${fields[0]} == [ZX] ]] && [ "${fields[17]}" -le 1 ]
}

dead() {
	! alive "$1"
}

# end_of PID: prints what wait4 told the subreaper about the process, as a line of JSON; nothing while it lives.
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

# --- time: limits are multiplied by RUNCH_TEST_SLOWER, for slower machines ---

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

# now: prints the time in milliseconds.
now() {
	echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# within MILLISECONDS COMMAND...: the command has to succeed within this time.
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

# same A B: fails unless the two values are equal, and shows them.
same() {
	[ "$1" = "$2" ] || {
		printf 'got      %s\nexpected %s\n' "$1" "$2"
		return 1
	}
}

# says TEXT FILE: whether the file contains the text.
says() {
	grep -qF -- "$1" "$2"
}
