#!/bin/bash
# For the suites that kill -9 each process of a pod's sandbox at each stage of its life. There is one for each caller.
#
#	creating   the pod is being made: its VM boots
#	empty      it has no member yet
#	adding     a second member is being made
#	created    a second member is made, and not started
#	running    a member runs, and an exec in it
#	paused     they are paused
#	stopping   a member was told to end, and is in its grace period
#	exited     a member has ended, and is not deleted yet
#
# The pod is the only one in $ROOT. A suite has two functions for each stage that its caller has. at_STAGE VICTIM makes
# a pod, brings it to the stage, kills the holder, the VMM or virtiofsd, and checks what the caller then does by itself.
# shims_at_STAGE kills shims of a member instead, first that of an exec and then the member's own. The pod goes on.

# STUBBORN is a script for members: after it has printed "stubborn", it reports SIGTERM and goes on.
STUBBORN='trap "echo told" TERM; echo stubborn; while :; do sleep 100000 & wait $!; done'

# LASTING is a command for execs: it prints "begun" and goes on. Its shim is found by the command's last word.
LASTING=(sh -c 'echo begun; sleep 100000' "lasting.$$")

# losses CALLER: prints a line "STAGE VICTIM" for each case in which the caller's pod loses its VM. Each process is
# killed at each stage with one of the callers, and with RUNCH_TEST_LONG=1 with each of them. (21-pods.bats kills the
# holder of a running pod.)
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

# shim_stages CALLER: prints the stages at which shims are killed: each with one of the callers, or with
# RUNCH_TEST_LONG=1 with each of them. (21-pods.bats and 05-death.bats kill the shims of a running member and exec.)
shim_stages() {
	case $1,$RUNCH_TEST_LONG in
	containerd,1) echo adding running stopping ;;
	*,1) echo adding created running paused stopping ;;
	containerd,*) echo adding ;;
	podman,*) echo paused ;;
	crio,*) echo created stopping ;;
	esac
}

# victim WHICH: sets VICTIM to the pid of the holder, vmm or virtiofsd, of the shim of the member that is being made
# (new) or was made last (member), or of the exec's shim (exec). It fails if there is no such process.
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
		vmm) VICTIM=$(below "$holder" "${VMM_KIND:0:15}") ;; # comm has at most 15 characters
		virtiofsd) VICTIM=$(below "$holder" virtiofsd) ;;
		esac
		;;
	esac
	[ "${VICTIM:-0}" -gt 1 ]
}

records() {
	cat "$ROOT"/[!@]*/container.json
}

# kill_victim WHICH: kills that process as soon as it exists.
kill_victim() {
	eventually 20 victim "$1" 2>"$T/.victim" || {
		cat "$T/.victim"
		return 1
	}
	kill -KILL "$VICTIM"
}

# halt_vmm: stops the VMM until resume_vmm. The guest does not answer, so an operation that is begun stays unfinished.
halt_vmm() {
	victim vmm
	HALTED=$VICTIM
	kill -STOP "$HALTED"
}

resume_vmm() {
	kill -CONT "$HALTED" 2>/dev/null || true # the VMM may be the killed process
}

# job NAME COMMAND...: starts a helper whose output goes to $T/NAME.
job() {
	helper "${@:2}" >"$T/$1" 2>&1
	JOB=$helper JOB_OUT=$T/$1
}

# job_ends STATUS [TEXT]: expects the last job to end within 10 s with this status (!: any but 0) and this output.
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
