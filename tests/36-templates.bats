#!/usr/bin/env bats
# Templates. Where there is no KVM, the first VM of a kind is saved when it has booted, and it and later ones go on from
# there (docs/guest.md).

load helpers

setup() {
	needs_vm
	! runch env | grep -q '^accel *kvm' || skip "with KVM every VM boots"
	begin
	export RUNCH_CACHE_DIR=$T/cache
	bundle
}

teardown() {
	[ -z "${T:-}" ] || finish
}

# templates: prints how many there are.
templates() {
	find "$T/cache/templates" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l
}

# from_template: whether the container's VM went on from one.
from_template() {
	tr '\0' ' ' <"/proc/$(below "$PID" "${VMM_KIND:0:15}")/cmdline" | grep -q -- ' -incoming '
}

@test "the first VM of a kind makes a template, later ones use it, and each has random numbers of its own and the right time" {
	local numbers=() ahead i
	script 'cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -An -tx1; date +%s; exec sleep 1000'
	for i in 1 2 3; do
		ID=${T##*/}-$i
		launch
		from_template
		same "$(templates)" 1
		eventually 20 lines 3
		numbers+=("$(head -n 2 "$B/stdout")")
		ahead=$(($(sed -n 3p "$B/stdout") - $(date +%s)))
		[ "${ahead#-}" -le 20 ]
		runch delete --force "$ID"
	done
	[ "${numbers[0]}" != "${numbers[1]}" ] && [ "${numbers[1]}" != "${numbers[2]}" ] && [ "${numbers[0]}" != "${numbers[2]}" ]
	# Nobody else reads a template.
	same "$(stat -c %a "$T"/cache/templates{,/*,/*/*} | sort -u | xargs)" "600 700"
}

# lines COUNT: whether the container has written so many lines.
lines() {
	[ "$(wc -l <"$B/stdout")" -ge "$1" ]
}

@test "a VM of another size has a template of its own" {
	args sleep 1000
	launch
	runch delete --force "$ID"
	config '.linux.resources.memory.limit = 67108864'
	launch
	from_template
	same "$(templates)" 2
	runch delete --force "$ID"
}

@test "with templates set to never every VM boots" {
	args sleep 1000
	RUNCH_TEMPLATES=never launch
	run ! from_template
	[ ! -e "$T/cache" ]
}

@test "a directory that others can write to is not used: who writes a template decides what a guest does" {
	mkdir -p "$T/cache"
	mkdir -m 777 "$T/cache/templates"
	args sleep 1000
	launch
	run ! from_template
	same "$(templates)" 0
}

@test "a damaged template fails one create, which removes it; the next one makes another" {
	args sleep 1000
	launch
	runch delete --force "$ID"
	local file
	for file in memory qemu-state; do
		truncate -s 100000 "$T"/cache/templates/*/$file
		RUNCH_BOOT_TIMEOUT=20s try create
		same "$status" 1
		same "$(templates)" 0
		eventually 10 clean
		launch
		from_template
		runch delete --force "$ID"
	done
}

@test "a create that is killed while it makes a template leaves nothing that disturbs the next one" {
	args sleep 1000
	"$RUNCH" --root "$ROOT" create --bundle "$B" --pid-file "$B/pid" "$ID" </dev/null >"$T/out" 2>&1 3>&- &
	local creator=$!
	eventually 20 test -e "$T/cache/templates/new"
	kill -KILL "$creator"
	wait "$creator" || true
	eventually 10 nobody
	runch delete --force "$ID"
	launch
	from_template
	same "$(templates)" 1
}

# nobody: whether no VMM runs for this test.
nobody() {
	! pgrep -f "guest=$ID," >/dev/null
}

@test "VMs of a kind that are made at one time all run, whoever makes the template" {
	args sleep 1000
	config 'del(.linux.cgroupsPath)'
	local i pids=()
	for i in 1 2 3; do
		(
			ID=${T##*/}-$i
			runch create --bundle "$B" --pid-file "$T/pid$i" "$ID" </dev/null >"$T/out$i" 2>&1 && runch start "$ID"
		) &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i"
	done
	same "$(templates)" 1
	same "$(runch list --quiet | wc -l)" 3
}
