#!/bin/bash
# bats runs this once, around all suites.

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
	for what in jq ip setpriv socat; do
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
	# The parent of the tests' cgroups is nobody's but ours; it is empty, or it stays.
	find /sys/fs/cgroup -depth -type d -name runch-test -exec rmdir {} + 2>/dev/null || true
	rm -f "${REAPER_LOG:-}"
}
