#!/usr/bin/env bats
# kill -9 of each process of the sandbox of a pod of containerd's CRI plugin, at each stage of the pod's life.
# containerd notices by itself what has ended, reports why the operation in progress failed, and stops, removes and
# makes the pod again as usual. kill.bash lists the processes and stages, and those that are tested without
# RUNCH_TEST_LONG=1.

load helpers
load kubelet
load kill

# lost: waits until containerd has noticed the VM's end.
lost() {
	eventually 10 not_ready
}

# member_ended C [CODE]: waits until containerd has noticed the member's end, with this exit code.
member_ended() {
	eventually 10 status_is "$1" "CONTAINER_EXITED ${2:-137}"
}

# begun_exec: starts a lasting exec in $C as a job. crictl shows its output only at its end, so the exec makes a file to
# tell that it has begun. The name is new each time, as the guest may cache a removed file for a second.
begun_exec() {
	BEGUN=$((${BEGUN:-0} + 1))
	job exec cri exec --sync "$C" sh -c "echo >/volume/begun.$BEGUN; sleep 100000" "${LASTING[-1]}"
	eventually 10 test -s "$T/volume/begun.$BEGUN"
}

# stubborn_member: starts the member a, which ignores SIGTERM.
stubborn_member() {
	rm -f "$T/logs/a.log" # that of an earlier pod
	launch_member a sh -c "$STUBBORN"
	eventually 10 says stubborn "$T/logs/a.log"
}

at_creating() {
	pod_config
	job runp cri runp "$T/pod.json"
	kill_victim "$1"
	job_ends ! 'runch create failed'
	same "$(cri pods --quiet)" ""
}

at_empty() {
	pod
	kill_victim "$1"
	lost
}

at_adding() {
	pod
	launch_member a sleep 100000
	local a=$C
	add b sleep 100000
	halt_vmm
	job start cri start "$C"
	eventually 10 victim new
	kill_victim "$1"
	job_ends ! "the pod's sandbox has stopped meanwhile"
	same "$(cri inspect "$C" | jq -r '.status | "\(.state) \(.reason)"')" "CONTAINER_EXITED StartError"
	cri inspect "$C" | jq -e '.status.message | contains("the pod\u0027s sandbox has stopped meanwhile")'
	member_ended "$a"
	lost
}

at_running() {
	pod
	launch_member a sleep 100000
	begun_exec
	kill_victim "$1"
	job_ends !
	member_ended "$C"
	lost
}

at_stopping() {
	pod
	stubborn_member
	job stop cri stop --timeout 60 "$C"
	eventually 10 says told "$T/logs/a.log"
	kill_victim "$1"
	job_ends 0
	member_ended "$C"
	lost
}

at_exited() {
	pod
	launch_member a sh -c 'exit 5'
	member_ended "$C" 5
	kill_victim "$1"
	lost
	member_ended "$C" 5
}

# bats test_tags=contract:6
@test "what holds the VM is killed at each stage: containerd sees what ended, and the pod is made again" {
	needs_vm
	local case cases
	mapfile -t cases < <(losses containerd)
	for case in "${cases[@]}"; do
		echo "--- $case"
		"at_${case% *}" "${case#* }"
		if [ "${case% *}" = creating ]; then
			nothing_left
		else
			end_pod
		fi
	done
}

shims_at_adding() {
	local other=$C
	add a sleep 100000
	halt_vmm
	job start cri start "$C"
	kill_victim new
	resume_vmm
	job_ends ! 'runch create failed'
	same "$(cri inspect "$C" | jq -r '.status | "\(.state) \(.reason)"')" "CONTAINER_EXITED StartError"
	cri rm "$C"
	C=$other
	halt_vmm
	job exec cri exec --sync "$C" "${LASTING[@]}"
	kill_victim exec
	resume_vmm
	job_ends ! 'exec failed'
}

shims_at_running() {
	launch_member a sleep 100000
	begun_exec
	kill_victim exec
	job_ends ! 'exited with 137'
	in_member "$C" true
	begun_exec
	kill_victim member
	job_ends !
	member_ended "$C"
	cri rm "$C"
}

shims_at_stopping() {
	stubborn_member
	begun_exec
	local exec=$JOB exec_out=$JOB_OUT
	job stop cri stop --timeout 60 "$C"
	eventually 10 says told "$T/logs/a.log"
	kill_victim exec
	JOB=$exec JOB_OUT=$exec_out job_ends ! 'exited with 137'
	kill_victim member
	job_ends 0
	member_ended "$C"
	cri rm "$C"
}

# bats test_tags=contract:5
@test "an exec's shim and a member's are killed at each stage: containerd sees what ended, and the pod goes on" {
	needs_vm
	local stage other
	pod
	launch_member other sleep 100000
	other=$C
	for stage in $(shim_stages containerd); do
		echo "--- $stage"
		C=$other
		"shims_at_$stage"
	done
	in_member "$other" true
	launch_member a sleep 100000
	in_member "$C" true
	end_pod
}
