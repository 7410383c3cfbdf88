#!/usr/bin/env bats
# kill -9 of each process of the sandbox of a CRI-O pod, at each stage of the pod's life, with and without an infra
# container. conmon tells CRI-O what has ended and what failed, and the pod is removed and made again as usual.
# kill.bash lists the processes and stages, and those that are tested without RUNCH_TEST_LONG=1.

load helpers
load crio
load kill

# infra: starts the pod's infra container if INFRA is set. Otherwise CRI-O has dropped it.
infra() {
	if [ -n "$INFRA" ]; then
		crio sandbox
		args sleep 100000
		up
	else
		drop_infra
	fi
}

# member NAME WORD...: starts a member that runs the command.
member() {
	crio container "$1"
	args "${@:2}"
	up
}

# lost NAME: expects conmon to report within 5 s that the container has ended with 137. An empty name is the infra
# container, if there is one.
lost() {
	[ -n "$1$INFRA" ] || return 0
	of "$1"
	eventually 5 test -s "$W/exits/$ID"
	exited "$1" 137
}

# failed NAME TEXT: expects conmon to report that the container could not be created, with this reason.
failed() {
	message create 1 .
	refusal create pid "$2"
	umount --lazy "$T/storage/$POD${1:+-$1}"
}

# over NAME...: deletes the pod's containers, as the kubelet does. Nothing may be left, in the pod's network namespace
# either.
over() {
	local name
	for name in "$@"; do
		deleted "$name"
	done
	[ -z "$INFRA" ] || deleted ''
	same "$(find "$ROOT" -mindepth 1)" ""
	same "$(in_pod_network ip -o link show type tun)" ""
	same "$(in_pod_network tc qdisc show dev eth0 | grep ingress)" ""
	eventually 5 no_process
}

no_process() {
	! pgrep -a -f -- "$POD"
}

# deleted NAME: deletes a container and its files, as CRI-O does.
deleted() {
	local id=$POD${1:+-$1}
	as_server delete --force "$id"
	rm -rf "$T/run/$id" "$T/storage/$id"
}

# lasting_exec: starts a lasting exec by conmon in the member a. begun_exec also waits until it runs.
lasting_exec() {
	of a
	process "${LASTING[@]}" >"$W/process.json"
	crio_exec
}

begun_exec() {
	lasting_exec
	eventually 10 says begun "$W/exec.log"
}

# stubborn_member: starts the member a, which ignores SIGTERM.
stubborn_member() {
	member a sh -c "$STUBBORN"
	eventually 10 says stubborn "$W/ctr.log"
}

at_creating() {
	if [ -n "$INFRA" ]; then
		crio sandbox
	else
		drop_infra
		crio container a
	fi
	args sleep 100000
	as_crio
	kill_victim "$1"
	if [ -n "$INFRA" ]; then
		failed '' 'runch create failed'
		over
	else
		failed a 'runch create failed'
		over a
	fi
}

at_empty() {
	infra
	kill_victim "$1"
	lost ''
	over
}

at_adding() {
	infra
	member a sleep 100000
	crio container b
	args sleep 100000
	halt_vmm
	as_crio
	eventually 10 victim new
	kill_victim "$1"
	failed b "the pod's sandbox has stopped meanwhile"
	lost a
	lost ''
	over b a
}

at_created() {
	infra
	member a sleep 100000
	crio container b
	args sleep 100000
	as_crio
	created
	kill_victim "$1"
	lost a
	lost b
	lost ''
	try as_server start "$POD-b"
	[ "$status" -ne 0 ]
	over b a
}

at_running() {
	infra
	member a sleep 100000
	begun_exec
	kill_victim "$1"
	same "$(message exec 1 .exit_code)" 137
	lost a
	lost ''
	over a
}

at_paused() {
	infra
	member a sleep 100000
	as_server pause "$ID"
	kill_victim "$1"
	lost a
	lost ''
	over a
}

at_stopping() {
	infra
	stubborn_member
	as_server kill "$ID" 15
	eventually 10 says told "$W/ctr.log"
	kill_victim "$1"
	lost a
	# As if the grace period had ended at the same time.
	try as_server kill "$ID" KILL
	[[ $status = 1 && $stderr == *"not running"* ]]
	lost ''
	over a
}

at_exited() {
	infra
	member a sh -c 'exit 5'
	exited a 5
	kill_victim "$1"
	eventually 5 dead "$VICTIM"
	same "$(as_server state "$POD-a" | jq -r .status)" stopped
	if [ -n "$INFRA" ]; then
		lost ''
	else
		# The pod goes on: the next member gets a new VM.
		member b sleep 100000
		inside b true
		stop b 1
		exited b 137
	fi
	over a b
}

# walk CALLER: runs all cases of this caller.
walk() {
	local case cases
	mapfile -t cases < <(losses "$1")
	for case in "${cases[@]}"; do
		echo "--- $case"
		"at_${case% *}" "${case#* }"
	done
}

# bats test_tags=contract:6
@test "what holds the VM is killed at each stage of a pod with its infra container: conmon tells CRI-O what ended, and it is made again" {
	INFRA=yes walk crio
}

# bats test_tags=contract:6
@test "what holds the VM is killed at each stage of a pod without one: conmon tells CRI-O what ended, and it is made again" {
	INFRA='' walk crio_without_infra
}

shims_at_adding() {
	crio container a
	args sleep 100000
	halt_vmm
	as_crio
	kill_victim new
	resume_vmm
	failed a 'runch create failed'
	deleted a
	member a sleep 100000
	halt_vmm
	lasting_exec
	kill_victim exec
	resume_vmm
	refusal exec exit_code 'exec failed'
	stop a 1
	exited a 137
}

shims_at_created() {
	crio container a
	args sleep 100000
	as_crio
	created
	kill_victim member
	lost a
}

shims_at_running() {
	member a sleep 100000
	begun_exec
	kill_victim exec
	same "$(message exec 1 .exit_code)" 137
	inside a true
	begun_exec
	kill_victim member
	same "$(message exec 1 .exit_code)" 137
	lost a
}

shims_at_paused() {
	member a sleep 100000
	begun_exec
	as_server pause "$POD-a"
	kill_victim exec
	same "$(message exec 1 .exit_code)" 137
	kill_victim member
	lost a
}

shims_at_stopping() {
	stubborn_member
	begun_exec
	as_server kill "$POD-a" 15
	eventually 10 says told "$W/ctr.log"
	kill_victim exec
	same "$(message exec 1 .exit_code)" 137
	kill_victim member
	lost a
}

# bats test_tags=contract:5
@test "an exec's shim and a member's are killed at each stage: conmon tells CRI-O what ended, and the pod goes on" {
	local stage name kinds=('')
	[ "$RUNCH_TEST_LONG" = 0 ] || kinds+=(yes)
	for INFRA in "${kinds[@]}"; do
		infra
		member other sleep 100000
		for stage in $(shim_stages crio); do
			echo "--- ${INFRA:+with the infra container, }$stage"
			"shims_at_$stage"
			deleted a
		done
		inside other true
		for name in other ${INFRA:+''}; do
			stop "$name" 1
			exited "$name" 137
		done
		over other
	done
}
