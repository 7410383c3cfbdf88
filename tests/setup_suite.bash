#!/bin/bash
# Before each suite bats runs setup_suite, and after it teardown_suite.

setup_suite() {
	if [ -z "${REAPER_PID:-}" ]; then
		echo "start the suites with tests/run: they have to run below a subreaper" >&2
		return 1
	fi
	local what
	for what in "$RUNCH" "$RUNCH_ROOTFS/busybox" "$TOOLS/workload"; do
		[ -e "$what" ] || {
			echo "$what is missing: make all rootfs" >&2
			return 1
		}
	done
	for what in jq ip setpriv socat conmon busybox podman; do
		command -v "$what" >/dev/null || {
			echo "$what is missing: scripts/deps test" >&2
			return 1
		}
	done
	[ "$(id -u)" = 0 ] || {
		echo "the suites need root" >&2
		return 1
	}
	if [[ $("$RUNCH" --version) == *runch* ]]; then
		the_vmm || return
	fi
	echo "# $("$RUNCH" --version | head -n 1), host kernel $(uname -r), ${VMM_KIND:-no VMM}" >&3
}

# the_vmm: sets VMM_KIND and VMM_PROGRAM to the VMM that runch uses, and VMM_VARIABLE to the name of the variable that
# selects another program for it.
the_vmm() {
	local environment
	environment=$("$RUNCH" env --format json)
	VMM_KIND=$(jq -r '.hypervisor.kind // empty' <<<"$environment")
	VMM_PROGRAM=$(jq -r '.hypervisor.path // empty' <<<"$environment")
	case $VMM_KIND in
	qemu) VMM_VARIABLE=RUNCH_QEMU ;;
	cloud-hypervisor) VMM_VARIABLE=RUNCH_CLOUD_HYPERVISOR ;;
	*)
		echo "no hypervisor: $(jq -r .hypervisor.error <<<"$environment")" >&2
		return 1
		;;
	esac
	export VMM_KIND VMM_PROGRAM VMM_VARIABLE
}

teardown_suite() {
	rm -f "${REAPER_LOG:-}"
}
