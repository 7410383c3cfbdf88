#!/bin/bash
# What the suites have in common that kill -9 each process behind a pod at each stage of its life, one suite for each caller.
#
#	creating   the pod is being made: its VM boots
#	empty      it has no member yet
#	adding     a second member is being made
#	created    a second member is made, and not started
#	running    a member runs, and an exec in it
#	paused     they are paused
#	stopping   a member was told to end, and has time to
#	exited     a member has ended, and is there yet
#
# The pod is the only one in $ROOT. A suite has two functions for each stage that its caller has. at_STAGE makes a pod, brings
# it there, kills what it is given of what holds the VM, and looks at what the caller has of it by itself. shims_at_STAGE does
# that to a member of a pod that goes on: to the shim of an exec first, and then to the member's own.

# What a member runs that tells of SIGTERM, and goes on, once it has said so.
STUBBORN='trap "echo told" TERM; echo stubborn; while :; do sleep 100000 & wait $!; done'

# LASTING is an exec that says that it has begun, and lasts; its last word is what its shim is known by.
LASTING=(sh -c 'echo begun; sleep 100000' "lasting.$$")

# losses CALLER: a line for each of the caller's cases of a lost VM, "STAGE VICTIM". Each process is killed at each stage by
# one of the callers (but for the holder of a pod that runs, which 21-pods.bats has); with RUNCH_TEST_LONG=1 by each of them.
losses() {
	local stage victim victims containerd podman crio crio_without_infra
	while read -r stage containerd podman crio crio_without_infra; do
		victims=${!1}
		case $victims,$RUNCH_TEST_LONG in
		none,*) continue ;; # the caller has no such stage
		*,1) victims=holder,vmm,virtiofsd ;;
		-,*) continue ;;
		esac
		for victim in ${victims//,/ }; do
			echo "$stage $victim"
		done
	done <<-TABLE
		creating vmm              holder    -         virtiofsd
		empty    holder,virtiofsd -         vmm       none
		adding   virtiofsd        -         holder    vmm
		created  none             vmm       virtiofsd holder
		running  vmm              -         -         virtiofsd
		paused   none             virtiofsd holder    vmm
		stopping holder,vmm       -         -         virtiofsd
		exited   virtiofsd        -         vmm       holder
	TABLE
}

# shim_stages CALLER: the stages at which shims are killed, a word each: each by one of the callers (but for those of a
# member and of an exec that run, which 21-pods.bats and 05-death.bats have), or by each of them.
shim_stages() {
	case $1,$RUNCH_TEST_LONG in
	containerd,1) echo adding running stopping ;;
	*,1) echo adding created running paused stopping ;;
	containerd,*) echo adding ;;
	podman,*) echo paused ;;
	crio,*) echo created stopping ;;
	esac
}

# victim WHICH: finds the process, whose pid goes to $VICTIM: holder, vmm and virtiofsd of the VM, the shim of the member
# that is being made (new) or was made last (member), or that of the exec. It fails where there is none.
victim() {
	local holder
	case $1 in
	exec) VICTIM=$(pgrep -f -- " shim .*-- .* ${LASTING[-1]}\$") ;;
	new) VICTIM=$(records | jq -s 'map(select(.ready | not))[0].shim.pid // empty') ;;
	member) VICTIM=$(records | jq -s 'sort_by(.created) | last.shim.pid') ;;
	*)
		holder=$(cat "$ROOT"/@*/sandbox.json 2>/dev/null | jq .holder.pid) || return
		case $1 in
		holder) VICTIM=$holder ;;
		vmm) VICTIM=$(below "$holder" "${VMM_KIND:0:15}") ;; # what fits into comm
		virtiofsd) VICTIM=$(below "$holder" virtiofsd) ;;
		esac
		;;
	esac
	[ "${VICTIM:-0}" -gt 1 ]
}

records() {
	cat "$ROOT"/[!@]*/container.json
}

# kill_victim WHICH: kills it as soon as it is there.
kill_victim() {
	eventually 20 victim "$1" 2>"$T/.victim" || {
		cat "$T/.victim"
		return 1
	}
	kill -KILL "$VICTIM"
}

# halt_vmm: the guest answers nobody until resume_vmm, so that what is begun is under way.
halt_vmm() {
	victim vmm
	HALTED=$VICTIM
	kill -STOP "$HALTED"
}

resume_vmm() {
	kill -CONT "$HALTED" 2>/dev/null || true # it may be what was killed
}

# job NAME COMMAND...: a helper whose output is in $T/NAME.
job() {
	helper "${@:2}" >"$T/$1" 2>&1
	JOB=$helper JOB_OUT=$T/$1
}

# job_ends STATUS [TEXT]: the last job ends within 10 s, so (! for not 0), and its output has the text.
job_ends() {
	local status=0
	eventually 10 dead "$JOB"
	wait "$JOB" || status=$?
	cat "$JOB_OUT"
	if [ "$1" = ! ]; then
		[ "$status" -ne 0 ]
	else
		same "$status" "$1"
	fi
	[ -z "${2:-}" ] || says "$2" "$JOB_OUT"
}
