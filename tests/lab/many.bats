#!/usr/bin/env bats
# Many containers, one after another and at the same time: nothing is left, and they do not get slower.

load callers

setup_file() {
	export SLICE=/sys/kernel/debug/sched/base_slice_ns SLICE_BEFORE
	mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
	SLICE_BEFORE=$(<"$SLICE")
	# On an emulated processor a switch between VMs takes longer than the scheduler's default slice: ten VMs that boot
	# at the same time would take four times as long as ten one after another.
	echo 30000000 >"$SLICE"
	record before
}

teardown_file() {
	echo "$SLICE_BEFORE" >"$SLICE"
}

setup() {
	begin
	bundle
	config 'del(.linux.cgroupsPath)'
}

teardown() {
	finish
}

# cycle ID: runs a container from create to delete, and prints how long that took, in milliseconds.
cycle() {
	local began
	began=$(now)
	runch create --bundle "$B" --pid-file "$T/$1.pid" "$1" </dev/null >"$T/$1.out" 2>&1 &&
		runch start "$1" && exit_status "$(<"$T/$1.pid")" 120 >"$T/$1.status" && runch delete "$1" || return
	same "$(<"$T/$1.out")$(<"$T/$1.status")" "hello0" || return
	echo $(($(now) - began))
}

# median NUMBER...
median() {
	printf '%s\n' "$@" | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'
}

@test "containers one after another, 50 or RUNCH_CYCLES of them: nothing is left, no slowing" {
	local times=() n=${RUNCH_CYCLES:-50} i
	args echo hello
	for i in $(seq "$n"); do
		times+=("$(cycle "c$i")")
	done
	echo "# milliseconds: ${times[*]}" >&3
	same "$(runch list --quiet)" ""
	soon_unchanged before
	[ "$n" -lt 10 ] || {
		local first last
		first=$(median "${times[@]:0:n/3}") last=$(median "${times[@]:n-n/3}")
		echo "the median of the first third is $first ms, of the last $last ms"
		[ "$last" -le $((first * 3 / 2)) ]
	}
}

@test "10 containers at once: each has its own life, and nothing is left" {
	local i pids=() failed=()
	# They share one processor, so each takes as long to boot as all of them.
	local -x RUNCH_BOOT_TIMEOUT=6m DEADLINE=420
	args echo hello
	for i in $(seq 10); do
		cycle "p$i" >"$T/p$i.ms" 2>&1 &
		pids+=($!)
	done
	for i in "${!pids[@]}"; do
		wait "${pids[i]}" || {
			cat "$T/p$((i + 1)).ms" "$T/p$((i + 1)).out"
			failed+=("p$((i + 1))")
		}
	done
	same "${failed[*]}" ""
	same "$(runch list --quiet)" ""
	soon_unchanged before
}
