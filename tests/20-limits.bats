#!/usr/bin/env bats
# Costs that are counts, and so the same on any machine: calls to the agent, processes, threads, bytes. Each limit is a
# little above the present value, so that an increase is noticed.

load helpers

setup_file() {
	is_runch || skip "this is about the VM, and ${RUNCH##*/} has none"
	share
	bundle
	args sleep 100000
	launch
	shared
}

teardown_file() {
	[ -z "${SHARED:-}" ] || unshare_all
}

setup() {
	begin
	ASKED=0
}

teardown() {
	finish
}

# info JQ-FILTER: prints what the agent says of the guest and itself. This is a call too.
info() {
	"$TOOLS/guestinfo" "$ROOT" "$ID" | jq -r "$1"
}

# calls: sets CALLS to the number of calls that the agent has served, without those of this function.
calls() {
	ASKED=$((ASKED + 1))
	CALLS=$(($(info .calls) - ASKED))
}

# served NUMBER: whether the agent has served so many calls since CALLS was BEFORE.
served() {
	calls
	[ $((CALLS - BEFORE)) = "$1" ]
}

# counted NUMBER COMMAND...: expects the command to cause so many calls to the agent. Some come after the command's end:
# then a new shim calls Wait for its process.
counted() {
	local number=$1
	shift
	calls
	BEFORE=$CALLS
	"$@"
	eventually 5 served "$number" || {
		echo "$((CALLS - BEFORE)) calls and not $number: $*"
		return 1
	}
}

# members: prints the pids of all processes in the sandbox's pid namespace, sorted.
members() {
	local namespace dir
	namespace=$(readlink "/proc/$PID/ns/pid")
	for dir in /proc/[0-9]*; do
		[ "$(readlink "$dir/ns/pid" 2>/dev/null)" != "$namespace" ] || echo "${dir##*/}"
	done | sort -n
}

# programs: prints the names of their programs, sorted.
programs() {
	local pid word
	for pid in $(members); do
		IFS= read -r -d '' word <"/proc/$pid/cmdline" || continue # a zombie
		echo "${word##*/}"
	done | sort
}

# sandbox_is COUNT: whether the sandbox has this many shims, a VMM and a virtiofsd, and no other process. (Some
# implementations of virtiofsd have two processes.)
sandbox_is() {
	local all vmm=${VMM_PROGRAM##*/}
	all=$(programs)
	[ "$(grep -c '^runch$' <<<"$all")" = "$1" ] &&
		[ "$(grep -c "^$vmm" <<<"$all")" = 1 ] &&
		[[ $(grep -c '^virtiofsd$' <<<"$all") == [12] ]] &&
		! grep -vE "^(runch|$vmm.*|virtiofsd)\$" <<<"$all"
}

# memory PID: prints the process's proportional set size (PSS), in KiB.
memory() {
	awk '$1 == "Pss:" { print $2 }' "/proc/$1/smaps_rollup"
}

# switches PID: prints the number of context switches of all its threads.
switches() {
	cat "/proc/$1"/task/*/status | awk '/ctxt_switches/ { n += $2 } END { print n }'
}

# rest PID...: whether none of the processes' threads runs for three seconds.
rest() {
	local before pid
	before=$(for pid; do switches "$pid"; done)
	sleep 3 # the idle time to observe
	same "$(for pid; do switches "$pid"; done)" "$before"
}

# at_most LIMIT VALUE WHAT: expects a value above 0 and at most the limit, and always shows it.
at_most() {
	echo "# $3: $2, at most $1" >&3
	[ "$2" -gt 0 ] && [ "$2" -le "$1" ]
}

# below LIMIT COMMAND...: whether the command prints a number that is at most the limit.
below() {
	[ "$("${@:2}")" -le "$1" ]
}

@test "a verb is one call to the agent, and each process one more that stays open" {
	# Configure, CreateContainer, and Wait. The count starts with the VM.
	own
	args sleep 100000
	create
	BEFORE=0
	eventually 5 served 3
	counted 1 runch start "$ID"
	# Exec, and Wait.
	counted 2 execute true
	counted 2 background one "$ID" sleep 100000
	counted 1 runch kill "$ID" 0
	counted 1 kill -USR1 "$EXEC"
	counted 1 runch pause "$ID"
	counted 1 runch resume "$ID"
	counted 1 runch ps "$ID"
	echo '{"memory": {"limit": 536870912}}' >"$T/resources"
	counted 1 runch update --resources "$T/resources" "$ID"
	counted 1 runch events --stats "$ID"
	counted 0 runch state "$ID"
	counted 0 runch list
}

@test "input costs a stream, and one call that says where it ends" {
	printf 'four' >"$T/input"
	# Exec, Wait, CloseStdin.
	counted 3 runch exec "$ID" cat <"$T/input"
}

@test "a sandbox is its shim, the VMM, virtiofsd and the shims of its execs, and nothing else" {
	sandbox_is 1
	background one "$ID" sleep 100000
	background two "$ID" sleep 100000
	sandbox_is 3
	local first
	first=$(<"$T/one.pid")
	kill -KILL "$EXEC" "$first"
	exit_status "$EXEC" 5
	exit_status "$first" 5
	eventually 5 sandbox_is 1
}

@test "no verb leaves a process behind" {
	local before
	before=$(members)
	execute true
	runch kill "$ID" 0
	runch pause "$ID"
	runch resume "$ID"
	runch ps "$ID"
	runch state "$ID"
	runch list
	runch events --stats "$ID"
	same "$(members)" "$before"
	same "$(new_orphans)" ""
}

@test "a shim has few threads, and none of them wakes while nothing happens" {
	at_most 10 "$(awk '$1 == "Threads:" { print $2 }' "/proc/$PID/status")" "threads of the shim"
	background one "$ID" sleep 100000
	at_most 10 "$(awk '$1 == "Threads:" { print $2 }' "/proc/$EXEC/status")" "threads of an exec's shim"
	# A shim rests after it has given back the memory of its start, two seconds later. Go's runtime (sysmon) wakes once
	# a minute, which may fall into one of the observed times.
	eventually 7 rest "$PID" "$EXEC"
	kill -KILL "$EXEC"
}

@test "a shim has at most 8 MiB of memory, that of an exec too, and the first still after many execs" {
	eventually 10 below 8192 memory "$PID"
	for _ in 1 2 3 4 5 6 7 8; do
		execute true
	done
	background one "$ID" sleep 100000
	# A shim gives back unused memory two seconds after the last request.
	eventually 15 rest "$PID" "$EXEC"
	at_most 8192 "$(memory "$PID")" "KiB of the shim"
	at_most 8192 "$(memory "$EXEC")" "KiB of an exec's shim"
	kill -KILL "$EXEC"
}

@test "the agent has at most 16 MiB resident, still after many execs" {
	for _ in 1 2 3 4 5 6 7 8; do
		execute true
	done
	at_most $((16 << 20)) "$(info .agent_rss_bytes)" "bytes of the agent"
}

@test "timers of the threads behind a container may be late, which spares exits of the VM, and a program's are not" {
	own
	args sh -c 'cat /proc/self/timerslack_ns; echo 0 >/proc/self/timerslack_ns; cat /proc/self/timerslack_ns; sleep 100000'
	config '.process.capabilities.bounding += ["CAP_SYS_NICE"] | .process.capabilities.effective += ["CAP_SYS_NICE"]
		| .process.capabilities.permitted += ["CAP_SYS_NICE"]'
	create
	same "$(execute sh -c 'cd /proc/1/task && for thread in *; do cat /proc/$thread/timerslack_ns; done | sort -u')" "50000
5000000"
	runch start "$ID"
	printf '50000\n50000\n' >"$T/normal"
	eventually 5 cmp "$B/stdout" "$T/normal"
	same "$(execute sh -c 'cat /proc/self/timerslack_ns; echo 0 >/proc/self/timerslack_ns; cat /proc/self/timerslack_ns')" "50000
50000"
}

@test "a file is read ahead in requests of 1 MiB, the most that virtiofs has" {
	same "$(execute sh -c 'cat /sys/class/bdi/*/read_ahead_kb')" 1024
}

@test "what is shipped is small: 16 MiB of runtime, 12 of agent, 12 of initramfs" {
	local image
	image=$(runch env --format json | jq -r .initramfs.path)
	at_most $((16 << 20)) "$(stat -L -c %s "$RUNCH")" "bytes of the runtime"
	at_most $((12 << 20)) "$(jq .agent.size "${image%/*}/manifest.json")" "bytes of the agent"
	at_most $((12 << 20)) "$(stat -L -c %s "$image")" "bytes of the initramfs"
}
