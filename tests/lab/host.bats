#!/usr/bin/env bats
# What runch finds in the lab, which has everything that runch can use, and how many VM exits a container costs there.
# bats file_tags=lab

load callers

setup() {
	begin
	unset RUNCH_ACCEL
}

teardown() {
	finish
}

@test "check lacks nothing but perhaps a cloud-hypervisor; env says KVM, and the VMM that was asked for" {
	try runch check
	same "$status" 0
	[[ $output != *MISSING* ]]
	# The lab's callers get runch's path on their command lines, so their configuration does not have it.
	same "$(grep -vE '^(podman|containerd|docker) ' <<<"$output" | grep -c absent)" "$([ -n "${RUNCH_CLOUD_HYPERVISOR:-}" ] && echo 0 || echo 1)"
	[[ $output == *"version 2"* ]]
	try runch env
	[[ $output =~ accel\ +kvm ]]
	[[ $output =~ virtiofsd\ .*rust ]]
	[ -z "${RUNCH_HYPERVISOR:-}" ] || [[ $output =~ hypervisor\ .*$RUNCH_HYPERVISOR ]]
}

@test "without a word in the configuration the VMM is cloud-hypervisor where there is one, else QEMU with KVM" {
	unset RUNCH_HYPERVISOR
	try runch env
	[[ $output =~ accel\ +kvm ]]
	if [ -n "${RUNCH_CLOUD_HYPERVISOR:-}" ]; then
		[[ $output =~ hypervisor\ .*cloud-hypervisor ]]
	else
		[[ $output =~ hypervisor\ .*qemu ]]
	fi
}

@test "a container's whole life takes no more than 10000 exits of its VM, beside those of its clock" {
	# AMD's numbers for a host interrupt, a guest interrupt, and access to an MSR such as the timer's. Each tick of the
	# guest's clock causes one of each, and the number of ticks depends on how slow the lab is.
	local exits hist='hist:keys=vcpu_id if exit_reason != 96 && exit_reason != 100 && exit_reason != 124'
	local events=/sys/kernel/tracing/events/kvm/kvm_exit
	bundle
	args true
	echo "$hist" >$events/trigger
	runch run --bundle "$B" "$ID" </dev/null
	exits=$(awk '/Hits:/ { print $2 }' $events/hist)
	echo "!$hist" >$events/trigger
	echo "# $exits exits" >&3
	[ "$exits" -gt 0 ]
	[ "$exits" -le 10000 ]
}

@test "a lab that stands still would be ended: its watchdog is in systemd's hands" {
	local fd
	for fd in /proc/1/fd/*; do
		[[ $(readlink "$fd") != /dev/watchdog* ]] || return 0
	done
	false
}

@test "the lab's clock interrupts each second, which makes up for an interrupt that the lab's processor lost" {
	clock_interrupts() { awk '$NF == "rtc0" { print $2 }' /proc/interrupts; }
	local before
	before=$(clock_interrupts)
	[ -n "$before" ]
	more() { [ "$(clock_interrupts)" -gt "$before" ]; }
	eventually 3 more
}

# together: whether the container's clock and this machine's differ by at most two seconds.
together() {
	local ahead=$(($(execute date +%s) - $(date +%s)))
	[ "${ahead#-}" -le 2 ]
}

@test "a container's clock follows this machine's when that is set, forwards and back" {
	bundle
	args sleep 10000
	launch
	together
	date --set '+1 hour'
	eventually 10 together
	date --set '-1 hour'
	eventually 10 together
}
