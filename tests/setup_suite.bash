#!/bin/bash
# bats runs this around each suite.

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
	for what in jq ip setpriv socat conmon busybox; do
		command -v "$what" >/dev/null || {
			echo "$what is missing: scripts/deps test" >&2
			return 1
		}
	done
	[ "$(id -u)" = 0 ] || {
		echo "the suites need root" >&2
		return 1
	}
	echo "# $("$RUNCH" --version | head -n 1), host kernel $(uname -r)" >&3
}

teardown_suite() {
	rm -f "${REAPER_LOG:-}"
}
