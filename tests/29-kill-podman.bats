#!/usr/bin/env bats
# kill -9 of each process of the sandbox of a podman pod, at each stage of the pod's life. podman notices by itself what
# has ended, reports why the operation in progress failed, and stops, starts, removes and makes the pod again as usual.
# kill.bash lists the processes and stages, and those that are tested without RUNCH_TEST_LONG=1.

load podman
load kill

setup_file() {
	[[ $(command podman --version) == *" 4."* ]] || skip "this is about podman 4 on cgroup v1: a later one has its tests in the lab"
	engine
}

teardown_file() {
	unshare_all
}

setup() {
	begin
	needs_vm
}

teardown() {
	finish_podman
}

# started: starts the pod "pod" with only its infra container.
started() {
	pod_create
	podman pod start pod >/dev/null
}

# ended NAME... CODE: waits until the containers have ended with this exit code.
ended() {
	local name
	for name in "${@:1:$#-1}"; do
		eventually 10 is "$name" exited
		same "$(field "$name" '{{.State.ExitCode}}')" "${*: -1}"
	done
}

# over: stops and removes the pod by the usual commands. Nothing may be left.
over() {
	podman pod stop --time 0 pod
	podman pod rm pod
	eventually 10 none_left
}

# begun_exec: starts a lasting exec in the member a as a job.
begun_exec() {
	job exec podman exec a "${LASTING[@]}"
	eventually 10 says begun "$JOB_OUT"
}

at_creating() {
	pod_create
	podman create --pod pod --name a "$IMAGE" sleep 100000 >/dev/null
	job start podman pod start pod
	kill_victim "$1"
	job_ends 125 'runch create failed'
	same "$(states)" $'Created\na created\ninfra created'
	podman pod start pod
	podman exec a true
}

at_empty() {
	started
	kill_victim "$1"
	ended "$INFRA" 137
}

at_adding() {
	started
	member a "$IMAGE" sleep 100000
	podman create --pod pod --name b "$IMAGE" sleep 100000 >/dev/null
	halt_vmm
	job start podman start b
	eventually 10 victim new
	kill_victim "$1"
	job_ends 125 "the pod's sandbox has stopped meanwhile"
	ended a "$INFRA" 137
	is b created
}

at_created() {
	started
	member a "$IMAGE" sleep 100000
	podman create --pod pod --name b "$IMAGE" sleep 100000 >/dev/null
	podman init b
	is b initialized
	kill_victim "$1"
	ended a "$INFRA" 137
	eventually 10 is b created
	podman pod start pod
	podman exec b true
}

at_running() {
	started
	member a "$IMAGE" sleep 100000
	begun_exec
	kill_victim "$1"
	job_ends 137
	ended a "$INFRA" 137
	same "$(states)" $'Exited\na exited\ninfra exited'
}

at_paused() {
	started
	member a "$IMAGE" sleep 100000
	podman pod pause pod
	kill_victim "$1"
	ended a "$INFRA" 137
}

at_stopping() {
	started
	member a "$IMAGE" sh -c "$STUBBORN"
	eventually 10 logged a stubborn
	job stop podman pod stop --time 60 pod
	eventually 10 logged a told
	kill_victim "$1"
	job_ends 0
	ended a "$INFRA" 137
}

# logged NAME TEXT: whether a member has written the text.
logged() {
	[[ $(podman logs "$1") == *"$2"* ]]
}

at_exited() {
	started
	member a "$IMAGE" sh -c 'exit 5'
	ended a 5
	kill_victim "$1"
	ended "$INFRA" 137
	ended a 5
}

# bats test_tags=contract:6
@test "what holds the VM is killed at each stage: podman sees what ended, and the pod is made again" {
	local case cases
	mapfile -t cases < <(losses podman)
	for case in "${cases[@]}"; do
		echo "--- $case"
		"at_${case% *}" "${case#* }"
		over
	done
}

shims_at_adding() {
	podman create --pod pod --name a "$IMAGE" sleep 100000 >/dev/null
	halt_vmm
	job start podman start a
	kill_victim new
	resume_vmm
	job_ends 125 'runch create failed'
	is a created
	halt_vmm
	job exec podman exec other "${LASTING[@]}"
	kill_victim exec
	resume_vmm
	job_ends ! 'exec failed'
}

shims_at_created() {
	podman create --pod pod --name a "$IMAGE" sleep 100000 >/dev/null
	podman init a
	kill_victim member
	# A container that never ran has not exited.
	eventually 10 is a created
	podman start a
	podman exec a true
}

shims_at_running() {
	member a "$IMAGE" sleep 100000
	begun_exec
	kill_victim exec
	job_ends 137
	podman exec a true
	begun_exec
	kill_victim member
	job_ends 137
	ended a 137
	podman start a
	podman exec a true
}

shims_at_paused() {
	member a "$IMAGE" sleep 100000
	begun_exec
	podman pause a
	kill_victim exec
	job_ends 137
	is a paused
	kill_victim member
	ended a 137
	podman start a
	podman exec a true
}

shims_at_stopping() {
	member a "$IMAGE" sh -c "$STUBBORN"
	eventually 10 logged a stubborn
	begun_exec
	local exec=$JOB exec_out=$JOB_OUT
	job stop podman stop --time 60 a
	eventually 10 logged a told
	kill_victim exec
	JOB=$exec JOB_OUT=$exec_out job_ends 137
	kill_victim member
	job_ends 0
	ended a 137
}

# bats test_tags=contract:5
@test "an exec's shim and a member's are killed at each stage: podman sees what ended, and the pod goes on" {
	local stage
	started
	member other "$IMAGE" sleep 100000
	for stage in $(shim_stages podman); do
		echo "--- $stage"
		"shims_at_$stage"
		podman stop --time 0 a
		podman rm a
	done
	podman exec other true
	over
}
